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
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from models.signing import SIGNATURE_BYTES, BadSignature, Signer
from models.weights import (
    WEIGHTS_MAX_BYTES,
    BadWeights,
    LaneRef,
    MemberRef,
    SchemaMismatch,
    Step,
    Weights,
    checksum_of,
    decode_verified,
    encode,
    manifest_for,
    manifest_of,
    sha256_of,
)
from models.weights_file import seal
from models.weights_kinds import STACK_MAX, TREE_DEPTH_MAX, TREES_MAX
from tests.builders_weights import KEYS, SIGNER, an_ensemble, some_trees, with_arrays

DIGEST = "a" * 64
N = 4
NETWORK, TREES = "delayed.network", "delayed.boosted.3"


def some_weights(**changes: Any) -> Weights:
    given_fields: dict[str, Any] = {
        "version": 7,
        "parent_sha256": "b" * 64,
        "offsets": {"labels.v1:0": 4, "decisions.v1:1": 9},
        "metrics": {"average_precision": 0.25},
        "step": Step(mean_logit=0.01, max_logit=0.5, max_p=0.02),
        "cuts": [[{"labels.v1:0": 2}, 17], [{"labels.v1:0": 4}, 18]],
    }
    return replace(an_ensemble(DIGEST, N), **given_fields | changes)


DATA = encode(some_weights(), SIGNER)


def signed(tensors: dict[str, NDArray[Any]], manifest: dict[str, Any] | str) -> bytes:
    """What a careless holder of the key might sign."""
    text = manifest if isinstance(manifest, str) else msgspec.json.encode(manifest).decode()
    unsigned = save(
        tensors | {"signature": np.zeros(SIGNATURE_BYTES, np.uint8)}, {"manifest": text}
    )
    return resigned(unsigned)


def resigned(data: bytes) -> bytes:
    body = data[:-SIGNATURE_BYTES]
    return body + SIGNER.sign(bytes.fromhex(sha256_of(body)))


def manifest(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(manifest_of(DATA))
    return found | changes


def arrays() -> dict[str, NDArray[Any]]:
    return dict(some_weights().arrays)


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


@pytest.mark.parametrize(
    "name",
    ["scaler.mean", f"{NETWORK}.w1", f"{NETWORK}.embed.1", f"{TREES}.threshold", "probe.logit"],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_refused(name: str, value: float) -> None:
    bad = arrays()
    bad[name] = bad[name].copy()
    bad[name].flat[0] = value
    with pytest.raises(BadWeights, match=name):
        decode_verified(encode(some_weights(arrays=bad), SIGNER), KEYS)


def test_a_probe_may_miss_a_feature_but_not_be_infinite() -> None:
    probe = some_weights().arrays["probe.x"].copy()
    assert np.isnan(probe).any()
    probe[1, 1] = np.inf
    with pytest.raises(BadWeights, match=r"probe\.x: .*infinite"):
        decode_verified(encode(with_arrays(some_weights(), probe__x=probe), SIGNER), KEYS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({f"{NETWORK}.w1": np.zeros((2, 8, 5), np.float32)}, r"w1: expected float32 \(2, 8, 16\)"),
        ({f"{NETWORK}.w1": np.zeros((2, 8, 16), np.float64)}, "w1: expected float32 or int32"),
        ({f"{NETWORK}.w1": np.zeros((2, 8, 16), np.int32)}, "w1: expected float32 .*found int32"),
        ({f"{NETWORK}.w1": None}, "w1: missing"),
        ({f"{NETWORK}.b0": None}, "b0: missing"),
        ({f"{NETWORK}.b0": np.zeros(16, np.float32)}, "b0: expected two dimensions"),
        (
            {f"{NETWORK}.b0": np.zeros((STACK_MAX + 1, 16), np.float32)},
            f"b0: {STACK_MAX + 1} networks; at most {STACK_MAX}",
        ),
        ({f"{NETWORK}.embed.1": np.zeros((0, 3), np.float32)}, r"embed\.1: expected two"),
        ({f"{NETWORK}.embed.1": np.zeros((9, 4), np.float32)}, "w0: expected float32"),
        ({f"{NETWORK}.embed.4": np.zeros((9, 4), np.float32)}, r"embed\.4"),
        ({f"{NETWORK}.embed.01": np.zeros((9, 4), np.float32)}, r"embed\.01: unknown"),
        ({"delayed.logistic.linear": np.zeros(5, np.float32)}, "linear: expected"),
        ({"delayed.logistic.bias": None}, "bias: missing"),
        ({f"{TREES}.feature": np.zeros((4, 19), np.float32)}, "feature: expected int32"),
        ({f"{TREES}.feature": np.zeros((TREES_MAX + 1, 19), np.int32)}, f"most {TREES_MAX}"),
        ({f"{TREES}.feature": None}, "feature: missing"),
        ({f"{TREES}.value": None}, "value: missing"),
        ({"scaler.mean": None}, r"scaler\.mean: missing"),
        ({"scaler.mean": np.zeros((), np.float32)}, r"scaler\.mean"),
        ({"extra": np.zeros(1, np.float32)}, "extra: unknown"),
        ({"delayed.stranger.linear": np.zeros(N, np.float32)}, "stranger.linear: unknown"),
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


def a_forest(**changes: Any) -> dict[str, NDArray[Any]]:
    """The arrays of a version whose trees have one number changed: name → (place, value)."""
    forest = some_trees(N, seed=1)
    for name, (place, value) in changes.items():
        forest[name][place] = value
    return arrays() | {f"{TREES}.{name}": array for name, array in forest.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"feature": ((0, 0), N)}, "feature: holds a number outside 0 to 3"),
        ({"feature": ((3, 18), -1)}, "feature"),
        ({"left": ((1, 0), 19)}, "left: holds a number outside 0 to 18"),
        ({"right": ((1, 0), -1)}, "right"),
        ({"missing_left": ((0, 0), 2)}, "missing_left"),
        ({"link": (0, 2)}, "link: 2 is none of"),
        ({"depth": (0, -1)}, "depth"),
        ({"depth": (0, TREE_DEPTH_MAX + 1)}, "depth"),
        ({"depth": (0, 1)}, "longer than the depth of 1"),
        ({"left": ((1, 2), 0)}, "never ends"),
        ({"right": ((1, 0), 0)}, "never ends"),
    ],
)
def test_trees_that_lead_nowhere_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadWeights, match=words):
        decode_verified(signed(a_forest(**change), manifest()), KEYS)


def test_trees_that_are_sound_pass_all_but_the_checksum() -> None:
    forest = a_forest(bias=(0, 0.25))
    with pytest.raises(BadWeights, match="result: the arrays' checksum is"):
        decode_verified(signed(forest, manifest()), KEYS)
    decode_verified(signed(forest, manifest(result=checksum_of(forest))), KEYS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 1}, "format: 1, this code reads 2"),
        ({"format": 3, "lanes": 4}, "format: 3, this code reads 2"),
        ({"version": 0}, "version: 0"),
        ({"members": []}, "members: 0"),
        ({"lanes": []}, "lanes: 0"),
        ({"beta": 0.5}, "beta: 0.5 is not the smallest"),
        ({"schema_digest": "abc"}, "schema_digest"),
        ({"schema_digest": "A" * 64}, "schema_digest"),
        ({"parent_sha256": "abc"}, "parent_sha256"),
        ({"result": "abc"}, "result"),
        ({"result": "0" * 32}, "result"),
        ({"base": 5}, "base: 5"),
        ({"base": 6}, "base: a delta to version 6"),
        ({"gone": ["x"]}, "base: a delta"),
        ({"offsets": "none"}, "manifest: .*offsets"),
        ({"step": None}, "manifest: .*step"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BadWeights, match=words):
        decode_verified(signed(arrays(), manifest(**change)), KEYS)


@pytest.mark.parametrize(
    ("which", "place", "change", "words"),
    [
        ("lanes", 0, {"name": "Feedback"}, "is no name"),
        ("lanes", 0, {"name": "delayed"}, "no such lane|twice"),
        ("lanes", 0, {"weight": -0.5}, r"lanes\.feedback\.weight: -0.5 is below 0"),
        ("lanes", 0, {"weight": 0.6}, r"lanes\.weight: the sum"),
        ("lanes", 0, {"a": 0.0}, r"lanes\.feedback\.a: 0.0 is not positive"),
        ("lanes", 1, {"a": 1e999}, r"lanes\.delayed\.a|manifest"),
        ("members", 0, {"name": "x-y"}, "is no name"),
        ("members", 0, {"name": "network.3.4"}, "is no name"),
        ("members", 0, {"lane": "other"}, r"members\.other\.network\.lane: no such lane"),
        ("members", 1, {"kind": "forest"}, r"delayed\.network\.kind: 'forest' is none of"),
        ("members", 1, {"weight": -1.0}, r"delayed\.network\.weight: -1.0"),
        ("members", 1, {"weight": 0.5}, r"members\.delayed\.weight: the sum"),
        ("members", 1, {"beta": 0.0}, r"delayed\.network\.beta: 0.0 lies outside"),
        ("members", 1, {"beta": 1.5}, r"delayed\.network\.beta"),
        ("members", 2, {"name": "network"}, "members: a name stands twice"),
        ("members", 2, {"kind": "network"}, r"delayed\.logistic\.b0: missing"),
    ],
)
def test_shares_that_make_no_sense_are_refused(
    which: str, place: int, change: dict[str, Any], words: str
) -> None:
    document = manifest()
    document[which][place] |= change
    with pytest.raises(BadWeights, match=words):
        decode_verified(signed(arrays(), json.dumps(document)), KEYS)


def test_too_many_lanes_or_members_are_refused() -> None:
    lanes = [{"name": f"lane_{i}", "weight": 0.0, "a": 1.0, "b": 0.0} for i in range(9)]
    with pytest.raises(BadWeights, match="lanes: 9; 1 to 8"):
        decode_verified(signed(arrays(), manifest(lanes=lanes)), KEYS)
    members = [msgspec.to_builtins(MemberRef(lane="a", name="b", kind="linear", weight=0.0))] * 65
    with pytest.raises(BadWeights, match="members: 65; 1 to 64"):
        decode_verified(signed(arrays(), manifest(members=members)), KEYS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": np.nan}, "weight: nan"),
        ({"a": np.inf}, "a: inf is not positive"),
        ({"a": np.nan}, "a: nan"),
        ({"b": np.nan}, "b: nan is not finite"),
        ({"b": -np.inf}, "b: -inf is not finite"),
        ({"name": "idle"}, "lanes: a name stands twice"),
    ],
)
def test_shares_that_are_no_numbers_are_no_version(change: dict[str, Any], words: str) -> None:
    weights = some_weights()
    odd = LaneRef(**{"name": "odd", "weight": 0.0} | change)
    with pytest.raises(AssertionError, match=words):
        replace(weights, lanes=(*weights.lanes, LaneRef(name="idle", weight=0.0), odd))


def test_a_lane_without_members_may_have_no_say() -> None:
    weights = some_weights()
    idle = LaneRef(name="idle", weight=0.0)
    data = encode(replace(weights, lanes=(*weights.lanes, idle)), SIGNER)
    assert decode_verified(data, KEYS).lanes[-1] == idle
    with pytest.raises(AssertionError, match=r"members\.delayed\.weight: the sum"):
        replace(weights, members=weights.members[:1])


def test_signed_nonsense_is_refused() -> None:
    for body in (b"x" * 100, (2**40).to_bytes(8, "little") + b"{}", b"\0" * 90):
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
    with pytest.raises(BadWeights, match="signature"):
        decode_verified(resigned(unsigned), KEYS)


def test_a_value_cannot_be_edited() -> None:
    weights = some_weights()
    with pytest.raises(ValueError, match="read-only"):
        weights.arrays["scaler.mean"][0] = 2.0
    with pytest.raises(AssertionError):
        replace(weights, version=0)
