"""A delta that does not fit, or makes no sense, is refused by name, and its base stays as it is."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from safetensors.numpy import save

from models.signing import BadSignature, Signer
from models.weights import (
    BadWeights,
    SchemaMismatch,
    checksum_of,
    decode_verified,
    encode,
    manifest_of,
    sha256_of,
)
from models.weights_delta import apply_delta, is_delta
from tests.builders_delta import CURRENT, DELTA, DIGEST, PARENT, TABLE, N, versions
from tests.builders_weights import KEYS, SIGNER, an_ensemble


@pytest.mark.parametrize("seed", [2, 3])
def test_another_base_is_refused(seed: int) -> None:
    with pytest.raises(BadWeights, match="base: a delta to version 1, not to 2"):
        apply_delta(replace(PARENT, version=2), DELTA, KEYS)
    with pytest.raises(BadWeights, match="model: a delta of 'champion', not of 'rival'"):
        apply_delta(replace(PARENT, model="rival"), DELTA, KEYS)
    with pytest.raises(BadWeights, match="result: the arrays' checksum"):
        apply_delta(an_ensemble(DIGEST, N, seed=seed), DELTA, KEYS)


def test_a_full_version_is_no_delta_and_a_delta_no_full_version() -> None:
    with pytest.raises(BadWeights, match="base: 0, a full version"):
        apply_delta(PARENT, encode(CURRENT, SIGNER), KEYS)
    with pytest.raises(BadWeights, match="base: a delta to version 1"):
        decode_verified(DELTA, KEYS)
    assert is_delta(encode(CURRENT, SIGNER)) == 0
    with pytest.raises(BadWeights):
        is_delta(b"nonsense")


def test_strangers_and_other_specs_are_refused() -> None:
    stranger = Signer(Ed25519PrivateKey.from_private_bytes(b"s" * 32)).public_key
    with pytest.raises(BadSignature):
        apply_delta(PARENT, DELTA, [stranger])
    with pytest.raises(SchemaMismatch):
        apply_delta(PARENT, DELTA, KEYS, "b" * 64)


def careless(tensors: dict[str, NDArray[Any]], **changes: Any) -> bytes:
    """A signed delta that no encoder of ours makes."""
    document = msgspec.to_builtins(manifest_of(DELTA)) | changes
    text = msgspec.json.encode(document).decode()
    body = save(tensors | {"signature": np.zeros(64, np.uint8)}, {"manifest": text})[:-64]
    return body + SIGNER.sign(bytes.fromhex(sha256_of(body)))


TWO, VALUES = np.array([2, 30], np.int32), np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"extra": VALUES}, "extra: unknown in a delta"),
        ({f"values/{TABLE}": VALUES}, "without its rows"),
        ({f"rows/{TABLE}": TWO}, f"values/{TABLE}: expected float32"),
        ({f"rows/{TABLE}": TWO, f"values/{TABLE}": VALUES[:1]}, "values/"),
        ({f"rows/{TABLE}": TWO, f"values/{TABLE}": VALUES.astype(np.int32)}, "values/"),
        ({f"rows/{TABLE}": TWO, f"values/{TABLE}": VALUES * np.nan}, "not finite"),
        ({f"rows/{TABLE}": TWO[::-1].copy(), f"values/{TABLE}": VALUES}, "must rise"),
        ({f"rows/{TABLE}": TWO + 20, f"values/{TABLE}": VALUES}, "must rise within 0 to 49"),
        ({f"rows/{TABLE}": TWO - 3, f"values/{TABLE}": VALUES}, "must rise"),
        ({f"rows/{TABLE}": TWO.astype(np.float32), f"values/{TABLE}": VALUES}, "expected int32"),
        ({f"rows/{TABLE}": TWO[None], f"values/{TABLE}": VALUES}, "expected int32"),
        ({"rows/new": TWO, "values/new": VALUES}, "the base has no such array"),
        ({"whole/new": VALUES}, "new: unknown"),
        ({f"whole/{TABLE}": VALUES[0]}, "embed.1: expected two dimensions"),
        ({"whole/delayed.boosted.3.left": np.zeros((4, 19), np.int32)}, "never ends"),
        ({"whole/scaler.mean": np.zeros(3, np.float32)}, "embed.3: 3 as its column"),
        ({"whole/scaler.mean": np.full(4, np.inf, np.float32)}, "scaler.mean: .*finite"),
    ],
)
def test_deltas_that_make_no_sense_are_refused_by_name(
    tensors: dict[str, NDArray[Any]], words: str
) -> None:
    before = checksum_of(PARENT.arrays)
    with pytest.raises(BadWeights, match=words):
        apply_delta(PARENT, careless(tensors), KEYS)
    assert checksum_of(PARENT.arrays) == before


@pytest.mark.parametrize("name", ["nothing", "scaler.mean", TABLE])
def test_what_is_gone_must_have_been_there_and_not_be_needed(name: str) -> None:
    with pytest.raises(BadWeights, match=r"has no nothing|scaler\.mean: missing|w0: expected"):
        apply_delta(PARENT, careless({}, gone=[name]), KEYS)


def test_trees_are_looked_at_again_when_vectors_get_shorter() -> None:
    """Their arrays did not change; and yet they would read past the end of a vector."""
    base = versions(an_ensemble(DIGEST, N), ["boosted.1"], [1])
    shorter = {
        f"whole/{name}": base.arrays[name][..., : N - 1].copy()
        for name in ("scaler.mean", "scaler.scale", "probe.x")
    }
    members = msgspec.to_builtins(base.members)
    lanes = msgspec.to_builtins(base.lanes)
    delta = careless(shorter, members=members, lanes=lanes, beta=1.0)
    with pytest.raises(BadWeights, match="feature: holds a number outside 0 to 2"):
        apply_delta(base, delta, KEYS)
