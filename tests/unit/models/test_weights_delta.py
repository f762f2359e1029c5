"""A delta leads to the very bits of the version it was made from, or nowhere."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from models.registry import NoWeights
from models.signing import SIGNATURE_BYTES, BadSignature, Signer
from models.weights import (
    BadWeights,
    LaneRef,
    MemberRef,
    SchemaMismatch,
    Weights,
    checksum_of,
    decode_verified,
    encode,
    manifest_of,
    sha256_of,
)
from models.weights_chain import Held, assemble, read_links
from models.weights_delta import (
    DELTA_CHAIN_MAX,
    apply_delta,
    encode_delta,
    encode_next,
    is_delta,
)
from tests.builders_weights import (
    KEYS,
    SIGNER,
    a_linear,
    a_network,
    an_ensemble,
    some_trees,
    with_arrays,
)

DIGEST = "a" * 64
N = 4
TABLE = "delayed.network.embed.1"


def following(weights: Weights, **changed: NDArray[Any] | None) -> Weights:
    after = with_arrays(weights, **changed)
    return replace(after, version=weights.version + 1, labels_learned=weights.labels_learned + 9)


def same(found: Weights, expected: Weights) -> None:
    for name in Weights.__slots__:
        if name not in {"arrays", "cuts"}:
            assert getattr(found, name) == getattr(expected, name), name
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype, name
        assert found.arrays[name].shape == array.shape, name
        assert found.arrays[name].tobytes() == array.tobytes(), name
        assert not found.arrays[name].flags.writeable


MEMBERS: dict[str, Any] = {
    "network": lambda seed: ("network", a_network(N, seed=seed, hidden=(4, 3))),
    "wide": lambda seed: (
        "network",
        a_network(N, seed=seed, hidden=(4, 3), embedded={1: (40, 3), 2: (9, 1)}),
    ),
    "stack": lambda seed: ("network", a_network(N, seed=seed, hidden=(2, 2), stack=3)),
    "logistic": lambda seed: ("linear", a_linear(N, seed=seed)),
    "boosted.1": lambda seed: ("trees", some_trees(N, seed=seed)),
    "boosted.2": lambda seed: ("trees", some_trees(N, seed=seed, trees=2, splits=2, link=1)),
}


def versions(base: Weights, names: Sequence[str], seeds: Sequence[int]) -> Weights:
    """The version that holds these members of lane `delayed`, each from its seed."""
    arrays = {n: a for n, a in base.arrays.items() if n.split(".")[0] in {"scaler", "probe"}}
    arrays["quantiles"] = base.arrays["quantiles"]
    refs = []
    for name, seed in zip(names, seeds, strict=True):
        kind, parts = MEMBERS[name](seed)
        arrays |= {f"delayed.{name}.{part}": array for part, array in parts.items()}
        refs.append(MemberRef(lane="delayed", name=name, kind=kind, weight=1 / len(names)))
    lane = LaneRef(name="delayed", weight=1.0)
    return replace(base, arrays=arrays, members=tuple(refs), lanes=(lane,))


some_names = st.lists(st.sampled_from(sorted(MEMBERS)), min_size=1, max_size=4, unique=True)


@settings(max_examples=40, deadline=None)
@given(some_names, some_names, st.data())
def test_members_that_come_go_change_or_stay(
    before: list[str], after: list[str], data: st.DataObject
) -> None:
    base = an_ensemble(DIGEST, N)
    parent = versions(base, before, [1] * len(before))
    seeds = [data.draw(st.integers(1, 3)) for _ in after]
    current = replace(versions(base, after, seeds), version=2, parent_sha256="c" * 64)
    delta = encode_delta(parent, current, SIGNER)
    assert is_delta(delta) == 1
    found = apply_delta(parent, delta, KEYS, DIGEST)
    same(found, current)
    for name, array in parent.arrays.items():
        if name in current.arrays and array.tobytes() == current.arrays[name].tobytes():
            assert found.arrays[name] is array, "what did not change is shared, not copied"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 49), st.integers(0, 2)), max_size=60),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(st.integers(0, 49), max_size=5),
)
def test_rows_of_a_table_that_changed(
    places: list[tuple[int, int]], value: float, told: bool, idle: list[int]
) -> None:
    parent = an_ensemble(DIGEST, N)
    table = parent.arrays[TABLE].copy()
    for row, column in places:
        table[row, column] = value
    current = following(parent, **{TABLE.replace(".", "__"): table})
    rows = np.array([row for row, _ in places] + idle, np.int64)
    changed_rows = {TABLE: rows} if told else None
    delta = encode_delta(parent, current, SIGNER, changed_rows)
    same(apply_delta(parent, delta, KEYS), current)
    expected = np.flatnonzero((table.view("u4") != parent.arrays[TABLE].view("u4")).any(axis=1))
    held = load(delta)
    if not expected.size:
        assert set(held) == {"signature"}
    elif f"rows/{TABLE}" in held:
        assert held[f"rows/{TABLE}"].tolist() == expected.tolist()
    else:
        assert held[f"whole/{TABLE}"].tobytes() == table.tobytes()
        assert expected.size * (4 + 12) >= table.nbytes


def test_bits_count_and_not_values() -> None:
    parent = an_ensemble(DIGEST, N)
    probe, mean = parent.arrays["probe.x"].copy(), parent.arrays["scaler.mean"].copy()
    mean[0] = 0.0
    parent = with_arrays(parent, scaler__mean=mean)
    minus = mean.copy()
    minus[0] = -0.0
    current = following(parent, probe__x=probe.copy(), scaler__mean=minus)
    delta = encode_delta(parent, current, SIGNER)
    assert set(load(delta)) == {"signature", "rows/scaler.mean", "values/scaler.mean"}
    same(apply_delta(parent, delta, KEYS), current)


def test_rows_beyond_the_table_are_refused_where_they_are_named() -> None:
    parent = an_ensemble(DIGEST, N)
    current = following(parent, **{TABLE.replace(".", "__"): parent.arrays[TABLE] + 1})
    with pytest.raises(ValueError, match="outside 0 to 49"):
        encode_delta(parent, current, SIGNER, {TABLE: np.array([50])})


def test_a_row_that_was_left_out_is_found_by_the_checksum() -> None:
    parent = an_ensemble(DIGEST, N)
    table = parent.arrays[TABLE].copy()
    table[[3, 5]] += 1
    current = following(parent, **{TABLE.replace(".", "__"): table})
    delta = encode_delta(parent, current, SIGNER, {TABLE: np.array([3])})
    with pytest.raises(BadWeights, match="result: the arrays' checksum is"):
        apply_delta(parent, delta, KEYS)


PARENT = an_ensemble(DIGEST, N)
TABLE_AFTER = PARENT.arrays[TABLE].copy()
TABLE_AFTER[[2, 30]] += np.float32(0.5)
CURRENT = following(
    PARENT,
    delayed__network__embed__1=TABLE_AFTER,
    delayed__logistic__bias=np.ones(1, np.float32),
)
DELTA = encode_delta(PARENT, CURRENT, SIGNER)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(DELTA) - 1), st.integers(0, 7))
def test_every_flipped_bit_of_a_delta_is_refused(place: int, bit: int) -> None:
    changed = bytearray(DELTA)
    changed[place] ^= 1 << bit
    with pytest.raises(BadSignature):
        apply_delta(PARENT, bytes(changed), KEYS)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(DELTA) - 65), st.integers(0, 255)), max_size=3),
    st.booleans(),
)
def test_signed_deltas_of_any_kind_are_applied_or_refused_by_name(
    changes: list[tuple[int, int]], cut: bool
) -> None:
    changed = bytearray(DELTA)
    for place, value in changes:
        changed[place] = value
    body = bytes(changed[: -SIGNATURE_BYTES - 4 * cut])
    data = body + SIGNER.sign(bytes.fromhex(sha256_of(body)))
    try:
        apply_delta(PARENT, data, KEYS)
    except (BadWeights, SchemaMismatch) as error:
        assert str(error)


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


def test_a_delta_is_made_where_it_pays() -> None:
    rows = np.array([2, 30])
    assert is_delta(encode_next(PARENT, CURRENT, SIGNER, 0, {TABLE: rows})) == 1
    assert encode_next(PARENT, CURRENT, SIGNER, 3) == DELTA
    assert is_delta(encode_next(None, CURRENT, SIGNER, 0)) == 0
    assert is_delta(encode_next(PARENT, CURRENT, SIGNER, DELTA_CHAIN_MAX)) == 0
    assert is_delta(encode_next(PARENT, CURRENT, SIGNER, DELTA_CHAIN_MAX - 1)) == 1
    other = replace(an_ensemble(DIGEST, N, seed=8), version=2)
    assert encode_next(PARENT, other, SIGNER, 0) == encode(other, SIGNER)


class Shelf:
    """Versions of one line, and what was read."""

    def __init__(self, deltas: int) -> None:
        self.weights = [PARENT]
        self.data = {1: encode(PARENT, SIGNER)}
        self.read_numbers: list[int] = []
        rng = np.random.default_rng(1)
        for _ in range(deltas):
            parent = self.weights[-1]
            table = parent.arrays[TABLE].copy()
            table[rng.integers(0, 50, 3)] += rng.normal(size=3).astype(np.float32)
            current = following(parent, **{TABLE.replace(".", "__"): table})
            current = replace(current, parent_sha256=sha256_of(self.data[parent.version]))
            self.data[current.version] = encode_delta(parent, current, SIGNER)
            self.weights.append(current)

    async def read(self, version: int) -> bytes:
        self.read_numbers.append(version)
        if version not in self.data:
            raise NoWeights(version)
        return self.data[version]

    def held(self, version: int) -> Held:
        return Held(self.weights[version - 1], sha256_of(self.data[version]))


async def test_a_chain_of_64_leads_to_the_last_version() -> None:
    shelf = Shelf(DELTA_CHAIN_MAX)
    links = await read_links(shelf.read, DELTA_CHAIN_MAX + 1)
    assert shelf.read_numbers == list(range(DELTA_CHAIN_MAX + 1, 0, -1))
    found = assemble(links, KEYS, DIGEST)
    same(found.weights, shelf.weights[-1])
    assert found.sha256 == sha256_of(shelf.data[DELTA_CHAIN_MAX + 1])


async def test_a_longer_chain_is_refused() -> None:
    shelf = Shelf(DELTA_CHAIN_MAX + 1)
    with pytest.raises(BadWeights, match="version 66 ends more than 64 deltas"):
        await read_links(shelf.read, DELTA_CHAIN_MAX + 2)


@pytest.mark.parametrize(("at_hand", "read"), [(9, [10]), (7, [10, 9, 8]), (1, None)])
async def test_what_is_at_hand_is_not_read_again(at_hand: int, read: list[int] | None) -> None:
    shelf = Shelf(9)
    links = await read_links(shelf.read, 10, shelf.held(at_hand))
    assert shelf.read_numbers == (read or [10, 9, 8, 7, 6, 5, 4, 3, 2])
    same(assemble(links, KEYS).weights, shelf.weights[-1])


async def test_a_version_of_another_line_is_not_built_upon() -> None:
    shelf = Shelf(4)
    stranger = Held(replace(an_ensemble(DIGEST, N, seed=5), version=4), "f" * 64)
    links = await read_links(shelf.read, 5, stranger)
    assert links.start is None
    same(assemble(links, KEYS).weights, shelf.weights[-1])


async def test_a_missing_base_is_named() -> None:
    shelf = Shelf(4)
    del shelf.data[2]
    with pytest.raises(BadWeights, match="version 5 builds on version 2, which is not there"):
        await read_links(shelf.read, 5)
    with pytest.raises(NoWeights):
        await read_links(shelf.read, 6)


async def test_bytes_under_another_number_are_refused() -> None:
    shelf = Shelf(4)
    shelf.data[5] = shelf.data[4]
    with pytest.raises(BadWeights, match="version: 4, and was kept as version 5"):
        await read_links(shelf.read, 5)


async def test_a_link_that_a_stranger_signed_breaks_the_chain() -> None:
    shelf = Shelf(4)
    stranger = Signer(Ed25519PrivateKey.from_private_bytes(b"s" * 32))
    shelf.data[3] = encode_delta(shelf.weights[1], shelf.weights[2], stranger)
    links = await read_links(shelf.read, 5)
    with pytest.raises(BadSignature):
        assemble(links, KEYS)
