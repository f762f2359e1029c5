"""A delta leads to the very bits of the version it was made from, or nowhere."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load

from models.signing import SIGNATURE_BYTES, BadSignature
from models.weights import BadWeights, SchemaMismatch, encode, sha256_of
from models.weights_delta import DELTA_CHAIN_MAX, apply_delta, encode_delta, encode_next, is_delta
from tests.builders_delta import (
    CURRENT,
    DELTA,
    DIGEST,
    MEMBERS,
    PARENT,
    TABLE,
    N,
    following,
    same,
    versions,
)
from tests.builders_weights import KEYS, SIGNER, an_ensemble, with_arrays

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


def test_a_delta_is_made_where_it_pays() -> None:
    rows = np.array([2, 30])
    assert is_delta(encode_next(PARENT, CURRENT, SIGNER, 0, {TABLE: rows})) == 1
    assert encode_next(PARENT, CURRENT, SIGNER, 3) == DELTA
    assert is_delta(encode_next(None, CURRENT, SIGNER, 0)) == 0
    assert is_delta(encode_next(PARENT, CURRENT, SIGNER, DELTA_CHAIN_MAX)) == 0
    assert is_delta(encode_next(PARENT, CURRENT, SIGNER, DELTA_CHAIN_MAX - 1)) == 1
    other = replace(an_ensemble(DIGEST, N, seed=8), version=2)
    assert encode_next(PARENT, other, SIGNER, 0) == encode(other, SIGNER)
