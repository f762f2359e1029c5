"""What is signed and yet no version is refused by name: arrays, trees, manifests, shares."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save

from models.weights import (
    BadWeights,
    LaneRef,
    MemberRef,
    checksum_of,
    decode_verified,
    encode,
    sha256_of,
)
from models.weights_kinds import STACK_MAX, TREE_DEPTH_MAX, TREES_MAX
from tests.builders_signed import (
    NETWORK,
    TREES,
    N,
    arrays,
    manifest,
    resigned,
    signed,
    some_weights,
)
from tests.builders_weights import KEYS, SIGNER, some_trees, with_arrays


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
