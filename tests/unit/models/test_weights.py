"""A version says what was learned, to whom holds the key, and says nothing when one bit changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from models.signing import SIGNATURE_BYTES, BadSignature, Signer
from models.weights import (
    WEIGHTS_MAX_BYTES,
    BadWeights,
    SchemaMismatch,
    Weights,
    decode_verified,
    encode,
    sha256_of,
    shapes_of,
)

DIGEST = "a" * 64
N = 3
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
KEYS = (SIGNER.public_key,)


def arrays(seed: int = 0, members: int = 1) -> dict[str, NDArray[np.float32]]:
    draws = np.random.default_rng(seed)
    found = {
        name: draws.normal(size=shape).astype(np.float32)
        for name, shape in shapes_of(N, members, (4, 2), 5).items()
    }
    found["scaler.scale"] = np.abs(found["scaler.scale"]) + 1
    found["quantiles"] = np.linspace(0, 1, 1001, dtype=np.float32)
    found["probe.x"][0, 0] = np.nan
    return found


def some_weights(**changes: Any) -> Weights:
    fields: dict[str, Any] = {
        "model": "champion",
        "version": 7,
        "schema_digest": DIGEST,
        "parent_sha256": "b" * 64,
        "beta": 0.5,
        "offsets": {"labels.v1:0": 4, "decisions.v1:1": 9},
        "learned_until_ms": 12,
        "labels_learned": 3,
        "created_at_ms": 99,
        "metrics": {"average_precision": 0.25},
        "code_version": "1.0",
        "arrays": arrays(),
    }
    return Weights(**fields | changes)


DATA = encode(some_weights(), SIGNER)


def signed(tensors: dict[str, NDArray[Any]], manifest: dict[str, Any] | str) -> bytes:
    """What a careless holder of the key might sign."""
    text = manifest if isinstance(manifest, str) else msgspec.json.encode(manifest).decode()
    unsigned = save(
        tensors | {"signature": np.zeros(SIGNATURE_BYTES, np.uint8)}, {"manifest": text}
    )
    body = unsigned[:-SIGNATURE_BYTES]
    return body + SIGNER.sign(bytes.fromhex(sha256_of(body)))


def manifest(**changes: Any) -> dict[str, Any]:
    weights = some_weights()
    names = [f for f in Weights.__slots__ if f != "arrays"]
    return {n: getattr(weights, n) for n in names} | {"format": 1, "members": 1} | changes


def test_what_is_encoded_is_decoded() -> None:
    weights = some_weights()
    found = decode_verified(DATA, KEYS, DIGEST)
    for name in Weights.__slots__:
        if name != "arrays":
            assert getattr(found, name) == getattr(weights, name)
    assert found.arrays.keys() == weights.arrays.keys()
    for name, array in weights.arrays.items():
        assert found.arrays[name].tobytes() == array.tobytes()
        assert not found.arrays[name].flags.writeable
    assert (found.n_features, found.members) == (N, 1)


def test_equal_weights_have_equal_bytes() -> None:
    backwards = dict(reversed(arrays().items()))
    assert encode(some_weights(arrays=backwards), SIGNER) == DATA


def test_it_is_a_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(DATA)
    with safe_open(tmp_path / "w.safetensors", "numpy") as file:
        assert set(file.keys()) == {*arrays(), "signature"}
        assert msgspec.json.decode(file.metadata()["manifest"])["version"] == 7


def test_every_flipped_byte_is_refused() -> None:
    for place in range(len(DATA)):
        changed = bytearray(DATA)
        changed[place] ^= 0x20
        with pytest.raises(BadSignature):
            decode_verified(bytes(changed), KEYS)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
def test_every_flipped_bit_is_refused(place: int, bit: int) -> None:
    changed = bytearray(DATA)
    changed[place] ^= 1 << bit
    with pytest.raises(BadSignature):
        decode_verified(bytes(changed), KEYS)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 200, len(DATA) - 1])
def test_a_cut_file_is_refused(size: int) -> None:
    with pytest.raises((BadSignature, BadWeights)):
        decode_verified(DATA[:size], KEYS)


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(BadSignature):
        decode_verified(DATA + b"\0", KEYS)
    with pytest.raises(BadWeights, match="bytes"):
        decode_verified(bytes(WEIGHTS_MAX_BYTES + 1), KEYS)


def test_another_key_is_refused_and_a_second_key_is_accepted() -> None:
    stranger = Signer(Ed25519PrivateKey.from_private_bytes(b"s" * 32)).public_key
    with pytest.raises(BadSignature):
        decode_verified(DATA, [stranger])
    with pytest.raises(BadSignature):
        decode_verified(DATA, [])
    assert decode_verified(DATA, [stranger, *KEYS]).version == 7


def test_another_spec_is_refused_by_name() -> None:
    with pytest.raises(SchemaMismatch, match="version 7 was learned with spec aaaa"):
        decode_verified(DATA, KEYS, "c" * 64)
    assert decode_verified(DATA, KEYS).schema_digest == DIGEST


@pytest.mark.parametrize("name", ["scaler.mean", "m0.w1", "m0.b2", "calibration", "probe.logit"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    bad = arrays()
    bad[name].flat[0] = value
    with pytest.raises(BadWeights, match=name):
        decode_verified(encode(some_weights(arrays=bad), SIGNER), KEYS)


def test_a_probe_may_miss_a_feature_but_not_be_infinite() -> None:
    bad = arrays()
    bad["probe.x"][1, 1] = np.inf
    with pytest.raises(BadWeights, match=r"probe\.x"):
        decode_verified(encode(some_weights(arrays=bad), SIGNER), KEYS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"m0.w1": np.zeros((2, 5), np.float32)}, r"m0\.w1: expected float32 \(2, 4\)"),
        ({"m0.w1": np.zeros((2, 4), np.float64)}, r"m0\.w1"),
        ({"m0.w1": None}, r"m0\.w1: missing"),
        ({"scaler.mean": None}, r"scaler\.mean: missing"),
        ({"extra": np.zeros(1, np.float32)}, "extra: unknown"),
        ({"scaler.scale": np.zeros(N, np.float32)}, "must be positive"),
        ({"quantiles": np.linspace(1, 0, 1001, dtype=np.float32)}, "quantiles"),
        ({"quantiles": np.linspace(0, 2, 1001, dtype=np.float32)}, "quantiles"),
        (
            {
                "probe.x": np.zeros((300, N), np.float32),
                "probe.logit": np.zeros(300, np.float32),
            },
            "more than 256 rows",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    change: dict[str, NDArray[Any] | None], words: str
) -> None:
    tensors = {n: a for n, a in (arrays() | change).items() if a is not None}
    with pytest.raises(BadWeights, match=words):
        decode_verified(signed(tensors, manifest()), KEYS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format: 2"),
        ({"version": 0}, "version"),
        ({"members": 0}, "members"),
        ({"members": 9}, "members"),
        ({"members": 2}, r"m1\.\w+: missing"),
        ({"beta": 0.0}, "beta"),
        ({"beta": 1.5}, "beta"),
        ({"schema_digest": "abc"}, "SHA-256"),
        ({"parent_sha256": "abc"}, "SHA-256"),
        ({"offsets": "none"}, "manifest"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadWeights, match=words):
        decode_verified(signed(arrays(), manifest(**change)), KEYS)


def test_signed_nonsense_is_refused() -> None:
    for body in (b"x" * 100, (2**40).to_bytes(8, "little") + b"{}"):
        data = body + SIGNER.sign(bytes.fromhex(sha256_of(body)))
        with pytest.raises(BadWeights, match="manifest"):
            decode_verified(data, KEYS)
    text = msgspec.json.encode(
        {"__metadata__": {"manifest": msgspec.json.encode(manifest()).decode()}}
    )
    body = len(text).to_bytes(8, "little") + text + b"tail"
    with pytest.raises(BadWeights, match="no safetensors"):
        decode_verified(body + SIGNER.sign(bytes.fromhex(sha256_of(body))), KEYS)


def test_a_signature_must_be_the_last_tensor() -> None:
    unsigned = save(arrays(), {"manifest": msgspec.json.encode(manifest()).decode()})
    body = unsigned[:-SIGNATURE_BYTES]
    with pytest.raises(BadWeights, match="signature"):
        decode_verified(body + SIGNER.sign(bytes.fromhex(sha256_of(body))), KEYS)


def test_two_members_fit_beside_each_other() -> None:
    weights = some_weights(arrays=arrays(members=2))
    assert decode_verified(encode(weights, SIGNER), KEYS).members == 2


def test_a_value_cannot_be_edited() -> None:
    weights = some_weights()
    with pytest.raises(ValueError, match="read-only"):
        weights.arrays["calibration"][0] = 2.0
    with pytest.raises(AssertionError):
        replace(weights, version=0)
