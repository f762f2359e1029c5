"""A version says what was learned, to whom holds the key, and says nothing when one bit changed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from models.signing import BadSignature, Signer
from models.weights import (
    WEIGHTS_MAX_BYTES,
    BadWeights,
    SchemaMismatch,
    Weights,
    checksum_of,
    decode_verified,
    encode,
    manifest_for,
    manifest_of,
)
from models.weights_file import seal
from tests.builders_signed import (
    DATA,
    DIGEST,
    N,
    arrays,
    manifest,
    resigned,
    signed,
    some_weights,
)
from tests.builders_weights import KEYS, SIGNER


def test_what_is_encoded_is_decoded() -> None:
    weights = some_weights()
    found = decode_verified(DATA, KEYS, DIGEST)
    for name in Weights.__slots__:
        if name != "arrays":
            assert getattr(found, name) == getattr(weights, name)
    assert found.arrays.keys() == weights.arrays.keys()
    for name, array in weights.arrays.items():
        assert found.arrays[name].tobytes() == array.tobytes()
        assert found.arrays[name].dtype == array.dtype
        assert not found.arrays[name].flags.writeable
    assert (found.n_features, found.beta) == (N, 0.25)


def test_the_manifest_can_be_read_without_the_key() -> None:
    found = manifest_of(DATA)
    assert (found.version, found.base, found.gone, found.beta) == (7, 0, [], 0.25)
    assert found.result == checksum_of(some_weights().arrays)
    assert [member.prefix for member in found.members] == [
        member.prefix for member in some_weights().members
    ]


def test_equal_weights_have_equal_bytes() -> None:
    backwards = dict(reversed(some_weights().arrays.items()))
    assert encode(some_weights(arrays=backwards), SIGNER) == DATA


def test_a_checksum_tells_names_types_shapes_and_bits() -> None:
    base = {"a": np.zeros((2, 3), np.float32), "b": np.ones(2, np.float32)}
    others = [
        {"a": base["a"]},
        {"a": base["a"], "c": base["b"]},
        {"a": base["a"].reshape(3, 2), "b": base["b"]},
        {"a": base["a"].astype(np.int32), "b": base["b"]},
        {"a": -base["a"], "b": base["b"]},
        {"a": base["b"], "b": base["a"]},
    ]
    assert len({checksum_of(arrays) for arrays in [base, *others]}) == 1 + len(others)
    assert checksum_of(dict(reversed(base.items()))) == checksum_of(base)
    assert checksum_of({"a": np.asfortranarray(base["a"]), "b": base["b"]}) == checksum_of(base)


def test_it_is_a_safetensors_file(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(DATA)
    with safe_open(tmp_path / "w.safetensors", "numpy") as file:
        assert set(file.keys()) == {*arrays(), "signature"}
        assert msgspec.json.decode(file.metadata()["manifest"])["version"] == 7


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(DATA) - 1), st.integers(0, 7))
def test_every_flipped_bit_is_refused(place: int, bit: int) -> None:
    changed = bytearray(DATA)
    changed[place] ^= 1 << bit
    with pytest.raises(BadSignature):
        decode_verified(bytes(changed), KEYS)


HEADER_BYTES = 8 + int.from_bytes(DATA[:8], "little")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(DATA) - 1) | st.integers(0, HEADER_BYTES), st.integers(0, 255)
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 200),
)
def test_signed_bytes_of_any_kind_are_read_or_refused_by_name(
    changes: list[tuple[int, int]], cut: int
) -> None:
    """Whoever holds the key and is careless makes no scorer fail but by `BadWeights`."""
    changed = bytearray(DATA[: len(DATA) - (cut if cut > 150 else 0)])
    for place, value in changes:
        changed[min(place, len(changed) - 1)] = value
    try:
        decode_verified(resigned(bytes(changed)), KEYS, DIGEST)
    except (BadWeights, SchemaMismatch) as error:
        assert str(error)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_signed_manifest_with_any_field_of_any_kind_is_refused_by_name(data: Any) -> None:
    document = manifest()
    name = data.draw(st.sampled_from(sorted(document)))
    inside = document[name]
    if isinstance(inside, list) and inside and isinstance(inside[0], dict):
        inside = data.draw(st.sampled_from(inside))
        name = data.draw(st.sampled_from(sorted(inside)))
        document["lanes"] = [dict(lane) for lane in document["lanes"]]
    else:
        inside = document
    strange = st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
    value = data.draw(strange)
    before = inside[name]
    inside[name] = value
    text = json.dumps(document)
    inside[name] = before
    try:
        decode_verified(signed(arrays(), text), KEYS)
    except BadWeights as error:
        assert str(error)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 200, len(DATA) - 1])
def test_a_cut_file_is_refused(size: int) -> None:
    with pytest.raises((BadSignature, BadWeights)):
        decode_verified(DATA[:size], KEYS)


def test_bytes_after_the_end_are_refused() -> None:
    with pytest.raises(BadSignature):
        decode_verified(DATA + b"\0", KEYS)
    with pytest.raises(BadWeights, match="bytes"):
        decode_verified(bytes(WEIGHTS_MAX_BYTES + 1), KEYS)


def test_a_version_that_no_scorer_would_take_is_not_made() -> None:
    weights = some_weights()
    with pytest.raises(ValueError, match="version 7 takes"):
        seal(manifest_for(weights), weights.arrays, SIGNER, most=len(DATA) - 1)
    assert seal(manifest_for(weights), weights.arrays, SIGNER, most=len(DATA)) == DATA


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


def test_a_value_cannot_be_edited() -> None:
    weights = some_weights()
    with pytest.raises(ValueError, match="read-only"):
        weights.arrays["scaler.mean"][0] = 2.0
    with pytest.raises(AssertionError):
        replace(weights, version=0)
