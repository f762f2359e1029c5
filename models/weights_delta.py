"""two consecutive versions → what changed, signed; a version and what changed → the next one.

A delta is a file as a full version is (`models/weights_file.py`), with `base` in its manifest, and
of each array that changed: "whole/{array}" all of it, or "rows/{array}" (int32, ascending) and
"values/{array}" those rows along the first axis, whichever is smaller. An array of the base that
is neither there nor listed in `gone` stays as it was.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.signing import PublicKey, Signer
from models.weights import Weights, encode, manifest_for, weights_from
from models.weights_file import seal, unseal
from models.weights_kinds import Array, Arrays, BadWeights, is_finite
from models.weights_manifest import Manifest, manifest_of

DELTA_CHAIN_MAX = 64
"""Deltas between a full version and the last one that builds on it."""
DELTA_SHARE_MAX = 0.5
"""Of the arrays' bytes; a larger delta is not worth its chain."""

WHOLE, ROWS, VALUES = "whole/", "rows/", "values/"

ChangedRows = Mapping[str, NDArray[np.int64]]


def encode_next(
    parent: Weights | None,
    current: Weights,
    signer: Signer,
    chain: int,
    changed_rows: ChangedRows | None = None,
) -> bytes:
    """Return a delta where it pays, else the full version.

    Args:
        parent: The version before; None: there is none at hand.
        current: What is to be published.
        signer: The learner's key.
        chain: Deltas since the last full version, `parent` included.
        changed_rows: As for `encode_delta`.
    """
    if parent is None or chain >= DELTA_CHAIN_MAX:
        return encode(current, signer)
    tensors = _differences(parent.arrays, current.arrays, changed_rows or {})
    changed = sum(tensor.nbytes for tensor in tensors.values())
    if changed > DELTA_SHARE_MAX * sum(array.nbytes for array in current.arrays.values()):
        return encode(current, signer)
    return _sealed(parent, current, tensors, signer)


def encode_delta(
    parent: Weights, current: Weights, signer: Signer, changed_rows: ChangedRows | None = None
) -> bytes:
    """Return what changed since the version before, signed.

    Args:
        parent: The version before.
        current: The version that the delta leads to.
        signer: The learner's key.
        changed_rows: Full name of an array → rows that may have changed, all others being as they
            were; arrays without an entry are compared.

    Raises:
        ValueError: `changed_rows` names a row that the array does not have.
    """
    tensors = _differences(parent.arrays, current.arrays, changed_rows or {})
    return _sealed(parent, current, tensors, signer)


def is_delta(data: bytes) -> int:
    """Return the version that these bytes build on, whoever signed them; 0: a full version.

    Raises:
        BadWeights: They hold no manifest.
    """
    return manifest_of(data).base


def apply_delta(
    parent: Weights,
    data: bytes,
    public_keys: Sequence[PublicKey],
    schema_digest: str | None = None,
) -> Weights:
    """Return the version that a delta leads to; arrays that did not change are the parent's own.

    Args:
        parent: The version that the delta names as its base; it stays as it is.
        data: The bytes as the registry or the topic holds them.
        public_keys: Accepted keys.
        schema_digest: The digest in use; None takes any.

    Raises:
        BadSignature: No accepted key signed these bytes.
        BadWeights: Signed, but not a delta to `parent`, or what comes out is no version: see
            `models.weights.decode_verified`; its checksum included.
        SchemaMismatch: Learned with another spec than `schema_digest`.
    """
    manifest, tensors = unseal(data, public_keys, schema_digest)
    _check_base(manifest, parent)
    arrays = dict(parent.arrays)
    for name in manifest.gone:
        if arrays.pop(name, None) is None:
            raise BadWeights(f"gone: version {parent.version} has no {name}")
    known = set(arrays)
    for key, tensor in tensors.items():
        kind, name = _parts_of(key)
        if kind == WHOLE:
            arrays[name] = tensor
            known.discard(name)
        elif kind == ROWS:
            values = tensors.get(VALUES + name)
            arrays[name] = _patched(name, parent.arrays.get(name), tensor, values)
            if ".embed." not in name:  # of a large table only the new rows are looked at
                known.discard(name)
        elif ROWS + name not in tensors:
            raise BadWeights(f"{VALUES}{name}: without its rows")
    same_length = arrays.get("scaler.mean") is not None and (
        arrays["scaler.mean"].shape == parent.arrays["scaler.mean"].shape
    )
    return weights_from(manifest, arrays, known if same_length else ())


def _sealed(parent: Weights, current: Weights, tensors: Arrays, signer: Signer) -> bytes:
    assert current.version == parent.version + 1, "a delta leads to the version after its base"
    gone = parent.arrays.keys() - current.arrays.keys()
    return seal(manifest_for(current, parent.version, gone), tensors, signer)


def _differences(before: Arrays, after: Arrays, changed_rows: ChangedRows) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, new in after.items():
        old = before.get(name)
        if old is new:
            continue
        if old is None or old.shape != new.shape or old.dtype != new.dtype:
            found[WHOLE + name] = new
            continue
        rows = _changed(old, new, changed_rows.get(name))
        values = new[rows]
        if not rows.size:
            continue
        if rows.nbytes + values.nbytes < new.nbytes:
            found |= {ROWS + name: rows, VALUES + name: values}
        else:
            found[WHOLE + name] = new
    return found


def _changed(old: Array, new: Array, asked: NDArray[np.int64] | None) -> NDArray[np.int32]:
    """Return the rows whose bits differ, ascending: NaN is NaN, and -0 is not 0."""
    if asked is not None:
        asked = np.unique(asked)
        if asked.size and not 0 <= asked[0] <= asked[-1] < len(new):
            raise ValueError(f"changed rows lie outside 0 to {len(new) - 1}")
        old, new = old[asked], new[asked]
    differ = np.ascontiguousarray(old).view(np.uint32) != np.ascontiguousarray(new).view(np.uint32)
    rows = np.flatnonzero(differ.any(axis=tuple(range(1, differ.ndim))))
    return (rows if asked is None else asked[rows]).astype(np.int32)


def _check_base(manifest: Manifest, parent: Weights) -> None:
    if not manifest.base:
        raise BadWeights("base: 0, a full version and no delta")
    if manifest.base != parent.version:
        raise BadWeights(f"base: a delta to version {manifest.base}, not to {parent.version}")
    if manifest.model != parent.model:
        raise BadWeights(f"model: a delta of {manifest.model!r}, not of {parent.model!r}")


def _parts_of(key: str) -> tuple[str, str]:
    for kind in (WHOLE, ROWS, VALUES):
        if key.startswith(kind):
            return kind, key[len(kind) :]
    raise BadWeights(f"{key}: unknown in a delta")


def _patched(name: str, old: Array | None, rows: Array, values: Array | None) -> Array:
    """Return the array with other rows; what arrives is input and is checked."""
    if old is None:
        raise BadWeights(f"{ROWS}{name}: the base has no such array")
    if rows.dtype != np.int32 or rows.ndim != 1 or not rows.size:
        raise BadWeights(f"{ROWS}{name}: expected int32 (r,), found {rows.dtype} {rows.shape}")
    if (np.diff(rows) <= 0).any() or rows[0] < 0 or rows[-1] >= len(old):
        raise BadWeights(f"{ROWS}{name}: must rise within 0 to {len(old) - 1}")
    expected = (len(rows), *old.shape[1:])
    if values is None or (values.shape, values.dtype) != (expected, old.dtype):
        raise BadWeights(f"{VALUES}{name}: expected {old.dtype} {expected}")
    if ".embed." in name and not is_finite(values):
        raise BadWeights(f"{VALUES}{name}: holds a number that is not finite")
    new = old.copy()
    new[rows] = values
    return new
