"""learner → Weights → scorer: what was learned, frozen, numbered and signed.

On the wire a version is one safetensors file. Its arrays are float32; the manifest is JSON in the
header; the last 64 bytes, a tensor named `signature`, are an Ed25519 signature over the SHA-256 of
every byte before them. So nothing in the file can change unseen, header included.

The forward pass that these arrays mean stands in `models/scorer_torch.py`:
z = sign(x)·log1p(|x|); z = (z - scaler.mean) / scaler.scale; NaN → 0; clamp to ±8;
logit_m = w2·relu(w1·relu(w0·z + b0) + b1) + b2 + linear·z; logit = a·mean_m(logit_m) + b + ln β.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from models.signing import SIGNATURE_BYTES, PublicKey, Signer, verify

FORMAT = 1
WEIGHTS_MAX_BYTES = 8 * 1024 * 1024
MEMBERS_MAX = 8
QUANTILES = 1001
PROBE_ROWS_MAX = 256
MEMBER_ARRAYS = ("linear", "w0", "b0", "w1", "b1", "w2", "b2")

Arrays = Mapping[str, NDArray[np.float32]]


class BadWeights(ValueError):
    """The bytes are signed, and yet no version that this code can use; names the field."""


class SchemaMismatch(ValueError):
    """The version was learned with another feature spec than the one in use."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version says about itself; see `Weights` for the meaning of each field."""

    format: int
    model: str
    version: int
    schema_digest: str
    parent_sha256: str
    beta: float
    offsets: dict[str, int]
    learned_until_ms: int
    labels_learned: int
    created_at_ms: int
    metrics: dict[str, float]
    code_version: str
    members: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Weights:
    """One published state of the model. A value: made once, never edited.

    Attributes:
        model: Name of the model family; versions are numbered within it.
        version: Publication number; starts at 1, grows by 1, is never reused.
        schema_digest: SHA-256 (hex) of the feature spec whose vectors these weights take.
        parent_sha256: SHA-256 (hex) of the bytes of the version before; empty for the first.
        beta: Share of negatives that were learned from, in (0, 1]; scoring adds ln β.
        offsets: "topic:partition" → next Kafka offset; everything before was learned.
        learned_until_ms: Label time of the newest label learned from; 0 for none.
        labels_learned: Labels taken in since the first version.
        created_at_ms: Wall clock of the learner.
        metrics: Progressive evaluation at that moment (`models/evaluation.py`).
        code_version: Build of the learner.
        arrays: float32, read-only; the names and shapes that `shapes_of` lists.
    """

    model: str
    version: int
    schema_digest: str
    parent_sha256: str
    beta: float
    offsets: Mapping[str, int]
    learned_until_ms: int
    labels_learned: int
    created_at_ms: int
    metrics: Mapping[str, float]
    code_version: str
    arrays: Arrays

    def __post_init__(self) -> None:
        """Refuse what no learner can have produced, and forbid edits in place."""
        assert self.version >= 1
        assert len(self.schema_digest) == 64
        assert len(self.parent_sha256) in {0, 64}
        assert 0.0 < self.beta <= 1.0
        for array in self.arrays.values():
            assert array.dtype == np.float32
            array.setflags(write=False)

    @property
    def n_features(self) -> int:
        """Length of the vectors that these weights take."""
        return int(self.arrays["scaler.mean"].shape[0])

    @property
    def members(self) -> int:
        """How many networks are averaged."""
        return sum(1 for name in self.arrays if name.endswith(".linear"))


def shapes_of(
    n: int, members: int, hidden: tuple[int, int], probes: int
) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every array of a version, nothing left out.

    Args:
        n: Number of features.
        members: Number of networks.
        hidden: Widths of the two hidden layers.
        probes: Rows of the golden batch.
    """
    shapes: dict[str, tuple[int, ...]] = {
        "scaler.mean": (n,),
        "scaler.scale": (n,),
        "calibration": (2,),
        "quantiles": (QUANTILES,),
        "probe.x": (probes, n),
        "probe.logit": (probes,),
    }
    h0, h1 = hidden
    sizes = ((n,), (h0, n), (h0,), (h1, h0), (h1,), (1, h1), (1,))
    for member in range(members):
        shapes |= {
            f"m{member}.{name}": size for name, size in zip(MEMBER_ARRAYS, sizes, strict=True)
        }
    return shapes


def sha256_of(data: bytes) -> str:
    """Return the name (hex) of a version's exact bytes: `parent_sha256`, `weights.sha256`."""
    return hashlib.sha256(data).hexdigest()


def encode(weights: Weights, signer: Signer) -> bytes:
    """Return the signed bytes; the same for the same weights and key."""
    manifest = Manifest(
        format=FORMAT,
        model=weights.model,
        version=weights.version,
        schema_digest=weights.schema_digest,
        parent_sha256=weights.parent_sha256,
        beta=weights.beta,
        offsets=dict(weights.offsets),
        learned_until_ms=weights.learned_until_ms,
        labels_learned=weights.labels_learned,
        created_at_ms=weights.created_at_ms,
        metrics=dict(weights.metrics),
        code_version=weights.code_version,
        members=weights.members,
    )
    tensors: dict[str, NDArray[np.float32] | NDArray[np.uint8]] = {
        name: np.ascontiguousarray(array) for name, array in weights.arrays.items()
    }
    # safetensors lays tensors out by falling alignment: the only bytes among float32 come last
    tensors["signature"] = np.zeros(SIGNATURE_BYTES, np.uint8)
    text = msgspec.json.encode(manifest, order="sorted").decode()
    unsigned = save_tensors(tensors, metadata={"manifest": text})
    body = unsigned[:-SIGNATURE_BYTES]
    return body + signer.sign(hashlib.sha256(body).digest())


def decode_verified(
    data: bytes, public_keys: Sequence[PublicKey], schema_digest: str | None = None
) -> Weights:
    """Read a version that a holder of one of the keys signed.

    The signature is checked before anything else is looked at.

    Args:
        data: The bytes as the registry or the topic holds them.
        public_keys: Accepted keys.
        schema_digest: The digest in use; None takes any.

    Raises:
        BadSignature: No accepted key signed these bytes.
        BadWeights: Signed, but not a version: too large, another format, a missing, unknown or
            misshapen array, a number that is not finite, a scale that is not positive.
        SchemaMismatch: Learned with another spec than `schema_digest`.
    """
    if not SIGNATURE_BYTES < len(data) <= WEIGHTS_MAX_BYTES:
        raise BadWeights(f"{len(data)} bytes; at most {WEIGHTS_MAX_BYTES} are taken")
    body, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    verify(public_keys, signature, hashlib.sha256(body).digest())
    manifest = _manifest_of(data)
    if schema_digest is not None and manifest.schema_digest != schema_digest:
        raise SchemaMismatch(
            f"version {manifest.version} was learned with spec {manifest.schema_digest[:12]}…, "
            f"in use is {schema_digest[:12]}…"
        )
    try:
        arrays = load_tensors(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BadWeights(f"no safetensors: {error}") from error
    trailer = arrays.pop("signature", None)
    if trailer is None or trailer.tobytes() != signature:
        raise BadWeights("signature: not the last tensor of the file")
    _check_arrays(arrays, manifest)
    return Weights(
        model=manifest.model,
        version=manifest.version,
        schema_digest=manifest.schema_digest,
        parent_sha256=manifest.parent_sha256,
        beta=manifest.beta,
        offsets=manifest.offsets,
        learned_until_ms=manifest.learned_until_ms,
        labels_learned=manifest.labels_learned,
        created_at_ms=manifest.created_at_ms,
        metrics=manifest.metrics,
        code_version=manifest.code_version,
        arrays={name: array.copy() for name, array in arrays.items()},
    )


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__")


def _manifest_of(data: bytes) -> Manifest:
    size = int.from_bytes(data[:8], "little")
    try:
        header = msgspec.json.decode(data[8 : 8 + size], type=_Header)
        manifest = msgspec.json.decode(header.metadata["manifest"], type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise BadWeights(f"manifest: {error}") from error
    if manifest.format != FORMAT:
        raise BadWeights(f"format: {manifest.format}, this code reads {FORMAT}")
    if manifest.version < 1 or not 1 <= manifest.members <= MEMBERS_MAX:
        raise BadWeights("version or members: out of range")
    if len(manifest.schema_digest) != 64 or len(manifest.parent_sha256) not in {0, 64}:
        raise BadWeights("schema_digest or parent_sha256: no SHA-256 in hex")
    if not 0.0 < manifest.beta <= 1.0:
        raise BadWeights(f"beta: {manifest.beta} lies outside (0, 1]")
    return manifest


def _check_arrays(arrays: Mapping[str, NDArray[np.float32]], manifest: Manifest) -> None:
    missing = {"scaler.mean", "probe.x", "m0.b0", "m0.b1"} - arrays.keys()
    if missing:
        raise BadWeights(f"{min(missing)}: missing")
    expected = shapes_of(
        arrays["scaler.mean"].size,
        manifest.members,
        (arrays["m0.b0"].size, arrays["m0.b1"].size),
        arrays["probe.x"].shape[0],
    )
    for name in expected.keys() ^ arrays.keys():
        raise BadWeights(f"{name}: {'missing' if name in expected else 'unknown'}")
    for name, array in arrays.items():
        if array.dtype != np.float32 or array.shape != expected[name]:
            raise BadWeights(f"{name}: expected float32 {expected[name]}, found {array.shape}")
        holes = np.isnan(array) if name == "probe.x" else False  # a missing feature is NaN there
        if not (np.isfinite(array) | holes).all():
            raise BadWeights(f"{name}: holds a number that is not finite")
    if not (arrays["scaler.scale"] > 0).all():
        raise BadWeights("scaler.scale: must be positive")
    quantiles = arrays["quantiles"]
    if (np.diff(quantiles) < 0).any() or quantiles[0] < 0 or quantiles[-1] > 1:
        raise BadWeights("quantiles: must rise from 0 to 1")
    if arrays["probe.x"].shape[0] > PROBE_ROWS_MAX:
        raise BadWeights(f"probe.x: more than {PROBE_ROWS_MAX} rows")
