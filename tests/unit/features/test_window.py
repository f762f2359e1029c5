"""The kernel against the brute-force oracle, and the law that a state is a function of a set."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.spec import Spec
from features.window import (
    SchemaMismatch,
    StateCorrupt,
    apply_many,
    evaluate_many,
    warm_up,
)
from features.window_jit import cache_folder
from features.window_kernel import apply_rows
from features.window_plan import Rows, plan_of, scratch_of, state_bytes_max
from features.window_state import CORRUPT
from tests.oracle import EVENT, LABEL, Oracle, Row, updates_of
from tests.unit.features.specs import ROOT, SMALL, spec_of

AMOUNT_MAX = 10**12


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    spec = spec_of(SMALL, tmp_path_factory.mktemp("small"))
    warm_up(spec)
    return spec


def fold(spec: Spec, entity: int, rows: Sequence[Row], blob: bytes = b"") -> bytes:
    updates = updates_of(spec, spec.entities[entity], rows)
    return apply_many(spec, [blob], np.zeros(len(rows), dtype=np.int32), updates)[0]


def ask(spec: Spec, entity: int, blob: bytes, at_ms: int, own: int = 0) -> tuple[list[float], bool]:
    X, late = evaluate_many(
        spec, entity, [blob], np.array([at_ms]), np.array([own], dtype=np.uint64)
    )
    return X[0].tolist(), bool(late[0])


def same(got: list[float], expected: list[float]) -> bool:
    return len(got) == len(expected) and all(
        (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-12, abs_tol=1e-9)
        for a, b in zip(got, expected, strict=True)
    )


times = st.one_of(st.integers(10_000, 10_060), st.integers(9_000, 12_000), st.integers(0, 40_000))
amounts = st.one_of(
    st.integers(-AMOUNT_MAX, AMOUNT_MAX),
    st.integers(100, 105),
    st.sampled_from([0, AMOUNT_MAX, -AMOUNT_MAX, AMOUNT_MAX - 1]),
)
hashes = st.one_of(
    st.integers(0, 5), st.integers(0, 2**32 - 1), st.sampled_from([0, 63, 64, 2**31])
)


@st.composite
def row_sets(draw: st.DrawFn, most: int = 40) -> list[Row]:
    """Rows of both series with different ids, in any order of time."""
    at = draw(st.lists(times, max_size=most))
    ids = draw(st.lists(st.integers(0, 2**64 - 1), min_size=len(at), max_size=len(at), unique=True))
    rows = []
    for time_ms, number in zip(at, ids, strict=True):
        if draw(st.integers(0, 2)):
            distinct = (draw(hashes), draw(hashes))
            rows.append(Row(EVENT, time_ms, number, 1, draw(amounts), distinct))
        else:
            sign = draw(st.sampled_from([1, 1, -1]))
            fraud = sign * draw(st.integers(0, 1))
            rows.append(Row(LABEL, time_ms, number, sign, fraud, (0, 0)))
    return rows


@settings(max_examples=300, deadline=None)
@given(rows=row_sets(), asked=st.lists(times, min_size=1, max_size=4))
def test_every_feature_equals_the_oracle(spec: Spec, rows: list[Row], asked: list[int]) -> None:
    for entity in spec.entities:
        blob = fold(spec, entity.index, rows)
        oracle = Oracle(spec, entity, rows)
        for at_ms in [*asked, *(row.time_ms for row in rows[-2:]), max(0, oracle.newest)]:
            own = rows[-1].id if rows else 0
            got, late = ask(spec, entity.index, blob, at_ms, own)
            expected = oracle.features(at_ms, own)
            assert same(got, expected), list(zip(entity.feature_names, got, expected, strict=True))
            assert late == oracle.late(at_ms)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), rows=row_sets())
def test_a_state_is_a_function_of_the_set(spec: Spec, data: st.DataObject, rows: list[Row]) -> None:
    """Any order, any cut into batches: the same bytes."""
    for entity in spec.entities:
        at_once = fold(spec, entity.index, rows)
        shuffled = data.draw(st.permutations(rows))
        blob = b""
        while shuffled:
            size = data.draw(st.integers(1, len(shuffled)))
            blob = fold(spec, entity.index, shuffled[:size], blob)
            shuffled = shuffled[size:]
        assert blob == at_once


@settings(max_examples=100, deadline=None)
@given(rows=row_sets())
def test_a_row_that_the_head_holds_changes_nothing(spec: Spec, rows: list[Row]) -> None:
    blob = fold(spec, 0, rows)
    oracle = Oracle(spec, spec.entities[0], rows)
    for row in oracle.heads[EVENT] + oracle.heads[LABEL]:
        assert fold(spec, 0, [row, row], blob) == blob


@settings(max_examples=100, deadline=None)
@given(rows=row_sets(), at_ms=times)
def test_the_bound_of_a_window_holds(spec: Spec, rows: list[Row], at_ms: int) -> None:
    """Beyond the head a window's far edge lies at most one tile early, and never late."""
    entity = spec.entities[0]
    got, late = ask(spec, 0, fold(spec, 0, rows), at_ms)
    if late:
        return
    for feature, value in zip(entity.features, got, strict=True):
        if feature.aggregate == "count" and feature.level is not None:
            level = entity.levels[feature.level]
            edge = at_ms - level.window_ms
            events = [r.time_ms for r in rows if r.series == EVENT and r.time_ms <= at_ms]
            least = sum(t > edge for t in events)
            most = sum(t > edge - level.tile_ms for t in events)
            assert least <= value <= most
            newest = sorted(events)[-spec.head_events :]
            if least <= len(newest) and len(rows) <= spec.head_events:
                assert value == least


def test_a_burst_leaves_the_head_into_one_tile(spec: Spec) -> None:
    rows = [Row(EVENT, 10_000, n, 1, 7, (n, 1)) for n in range(1000)]
    got, _ = ask(spec, 0, fold(spec, 0, rows), 10_000)
    features = dict(zip(spec.entities[0].feature_names, got, strict=True))
    assert features["card.count_over_30ms"] == 1000
    assert features["card.std_of_amount_over_10s"] == 0
    assert features["card.distinct_country_over_1s"] == pytest.approx(1, abs=0.01)


def test_an_estimate_of_many_distinct_values_is_within_four_standard_errors(spec: Spec) -> None:
    generator = np.random.default_rng(7)
    rows = [
        Row(EVENT, 10_000 + n // 100, n, 1, 1, (int(h), 0))
        for n, h in enumerate(generator.integers(1, 2**32, size=5000))
    ]
    got, _ = ask(spec, 0, fold(spec, 0, rows), 10_049)
    features = dict(zip(spec.entities[0].feature_names, got, strict=True))
    assert features["card.distinct_merchant_over_10s"] == pytest.approx(5000, rel=4 * 0.13)


def test_a_removed_label_leaves_every_window_with_the_row_it_removes(spec: Spec) -> None:
    added = Row(LABEL, 10_000, 1, 1, 1)
    removed = Row(LABEL, 10_000, 2, -1, -1)
    for at_ms in (10_000, 10_199, 10_200, 10_999, 11_000):
        got, _ = ask(spec, 0, fold(spec, 0, [added, removed]), at_ms)
        features = dict(zip(spec.entities[0].feature_names, got, strict=True))
        assert features["card.fraud_count_over_1s"] == 0
        assert math.isnan(features["card.fraud_rate_over_1s"])


def test_an_entity_never_seen_counts_zero_and_knows_no_more(spec: Spec) -> None:
    got, late = ask(spec, 0, b"", 5_000)
    features = dict(zip(spec.entities[0].feature_names, got, strict=True))
    assert not late
    assert features["card.count_over_10s"] == 0
    assert features["card.sum_of_amount_over_1s"] == 0
    assert math.isnan(features["card.mean_of_amount_over_1s"])
    assert math.isnan(features["card.since_last"])


def test_many_states_at_once_are_each_applied_their_own_rows(spec: Spec) -> None:
    """More slots than one call of the kernel takes; some untouched, some new."""
    old = fold(spec, 0, [Row(EVENT, 9_000, 1, 1, 5, (1, 1))])
    blobs = [old if n % 2 else b"" for n in range(2_500)]
    rows = [Row(EVENT, 9_500 + n, n + 10, 1, n, (1, 1)) for n in range(2_000)]
    slot = np.array([(n * 7) % 2_500 for n in range(2_000)], dtype=np.int32)
    result = apply_many(spec, blobs, slot, updates_of(spec, spec.entities[0], rows))
    for n, blob in enumerate(blobs):
        mine = [row for row, s in zip(rows, slot.tolist(), strict=True) if s == n]
        assert result[n] == (fold(spec, 0, mine, blob) if mine else blob)


def test_no_state_is_larger_than_promised(tmp_path: Path) -> None:
    """Heads and tiles as full as they can be, with the widest values."""
    text = SMALL.replace("head_events: 4", "head_events: 64").replace("65536", "9000")
    small = spec_of(text, tmp_path)
    generator = np.random.default_rng(3)
    rows = []
    for n in range(4_000):
        distinct = (int(generator.integers(1, 2**32)), int(generator.integers(1, 2**32)))
        value = AMOUNT_MAX if n % 2 else -AMOUNT_MAX
        rows.append(Row(EVENT, 100_000 + 6 * n, 2**63 + n, 1, value, distinct))
        rows.append(Row(LABEL, 100_000 + 6 * n, 2**62 + n, 1, n % 2))
    entity = small.entities[0]
    blob = fold(small, 0, rows)
    assert len(blob) <= state_bytes_max(small, entity) <= 9000
    got, _ = ask(small, 0, blob, rows[-1].time_ms)
    assert same(got, Oracle(small, entity, rows).features(rows[-1].time_ms, 0))


def test_an_ordinary_card_fits_1300_bytes() -> None:
    """60 payments in 30 days, by the shipped spec: 15 merchants, 2 devices, 20 addresses."""
    shipped = Spec.load(ROOT / "features.yaml")
    rows = [
        Row(
            EVENT,
            1_772_323_200_000 + 43_200_000 * n,
            2**63 + n,
            1,
            900 * n,
            (n % 15, n % 2, n % 20),
        )
        for n in range(60)
    ]
    rows = [replace(row, distinct=tuple(d + 2**31 for d in row.distinct)) for row in rows]
    assert len(fold(shipped, 0, rows)) <= 1300


def test_a_state_of_another_spec_format_or_entity_is_refused(spec: Spec, tmp_path: Path) -> None:
    blob = fold(spec, 0, [Row(EVENT, 9_000, 1, 1, 5, (1, 1))])
    other = spec_of(SMALL.replace("10s", "11s"), tmp_path)
    with pytest.raises(SchemaMismatch, match="another feature spec"):
        ask(other, 0, blob, 9_000)
    with pytest.raises(SchemaMismatch, match="another kind of entity"):
        ask(spec, 1, blob, 9_000)
    with pytest.raises(SchemaMismatch, match="another state format"):
        ask(spec, 0, b"\x00" + blob[1:], 9_000)
    with pytest.raises(SchemaMismatch, match="another kind of entity"):
        fold(spec, 1, [Row(EVENT, 9_000, 1)], blob)


@settings(max_examples=300, deadline=None)
@given(rows=row_sets(), data=st.data())
def test_damaged_bytes_are_refused_or_read_but_never_crash(
    spec: Spec, rows: list[Row], data: st.DataObject
) -> None:
    blob = bytearray(fold(spec, 0, [*rows, Row(EVENT, 9_000, 1, 1, 5, (1, 1))]))
    cut = data.draw(st.integers(10, len(blob) - 1))
    with pytest.raises(StateCorrupt):
        ask(spec, 0, bytes(blob[:cut]), 10_000)
    for _ in range(3):
        blob[data.draw(st.integers(10, len(blob) - 1))] = data.draw(st.integers(0, 255))
    with suppress(StateCorrupt):
        ask(spec, 0, bytes(blob), 10_000)


def test_a_deviation_of_small_differences_around_zero_is_exact(spec: Spec) -> None:
    """The rounded-down mean and the remainder have different signs here."""
    rows = [Row(EVENT, 10_000 + n, n, 1, value, (0, 0)) for n, value in enumerate([-1, 0, 0])]
    got, _ = ask(spec, 0, fold(spec, 0, rows), 10_002)
    features = dict(zip(spec.entities[0].feature_names, got, strict=True))
    assert features["card.std_of_amount_over_1s"] == pytest.approx(math.sqrt(2) / 3, rel=1e-15)
    large = [replace(row, value=row.value + AMOUNT_MAX - 1) for row in rows]
    got, _ = ask(spec, 0, fold(spec, 0, large), 10_002)
    features = dict(zip(spec.entities[0].feature_names, got, strict=True))
    assert features["card.std_of_amount_over_1s"] == pytest.approx(math.sqrt(2) / 3, rel=1e-12)


def test_a_question_before_rows_that_are_only_in_tiles_is_flagged(spec: Spec) -> None:
    rows = [Row(EVENT, 10_000 + n, n, 1, 1, (1, 1)) for n in range(6)]
    assert ask(spec, 0, fold(spec, 0, rows), 10_001)[1]
    assert not ask(spec, 0, fold(spec, 0, rows), 10_002)[1]
    assert not ask(spec, 0, fold(spec, 0, rows[:4]), 9_999)[1]


def test_damaged_states_are_refused_by_both_kernels(spec: Spec) -> None:
    blob = fold(spec, 0, [Row(EVENT, 9_000, 1, 1, 5, (1, 1))])
    for bad in (blob[:-1], blob + b"x", blob[:10] + b"\xff" + blob[11:]):
        with pytest.raises(StateCorrupt, match="state 0"):
            ask(spec, 0, bad, 9_000)
        with pytest.raises(StateCorrupt, match="state 0"):
            fold(spec, 0, [Row(EVENT, 9_001, 2)], bad)


def test_registers_cut_short_are_refused(spec: Spec) -> None:
    """Both codings of a tile's registers, dense and sparse, at every length."""
    many = [Row(EVENT, 10_000 + n // 64, n, 1, 1, (2**26 + n, 2**26)) for n in range(400)]
    blob = fold(spec, 0, many)
    for length in range(10, len(blob)):
        with pytest.raises(StateCorrupt):
            ask(spec, 0, blob[:length], 10_000)


def test_machine_code_is_kept_apart_for_each_state_of_the_sources(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "window_a.py").write_text("1")
    first = cache_folder("", here, True, tmp_path)
    assert first.parent == here / "__pycache__"
    assert cache_folder("", here, False, tmp_path).parent == tmp_path / ".cache" / "riskbeat"
    assert cache_folder("/elsewhere", here, False, tmp_path) == Path("/elsewhere") / first.name
    (here / "window_a.py").write_text("2")
    assert cache_folder("", here, True, tmp_path).name != first.name


def test_tiles_leave_with_the_windows_that_need_them(spec: Spec) -> None:
    """A short window's tiles are forgotten first; what is left is what late rows alone leave."""
    old = [Row(EVENT, 10_000 + n, n, 1, 1, (n + 1, 1)) for n in range(20)]
    new = [Row(EVENT, 12_000 + n, 100 + n, 1, 1, (n + 1, 1)) for n in range(6)]
    blob = fold(spec, 0, new, fold(spec, 0, old))
    got, _ = ask(spec, 0, blob, 12_005)
    features = dict(zip(spec.entities[0].feature_names, got, strict=True))
    assert features["card.count_over_1s"] == 6
    assert features["card.count_over_10s"] == 26
    assert blob == fold(spec, 0, old, fold(spec, 0, new))
    assert len(fold(spec, 0, [Row(EVENT, 90_000, 999)], blob)) < 60


def test_a_state_that_outgrows_its_room_is_refused(spec: Spec) -> None:
    """Only damaged bytes can do so; the kernel must stop before it writes outside."""
    rows = Rows(
        order=np.zeros(1, dtype=np.int64),
        first=np.array([0, 1], dtype=np.int64),
        series=np.zeros(1, dtype=np.uint8),
        time_ms=np.full(1, 9_000, dtype=np.int64),
        ids=np.ones(1, dtype=np.int64),
        weight=np.ones(1, dtype=np.int64),
        value=np.ones(1, dtype=np.int64),
        distinct=np.zeros((1, spec.max_distinct), dtype=np.uint32),
    )
    none = np.zeros(1, dtype=np.int64)
    status, slot = apply_rows(
        plan_of(spec), scratch_of(spec), np.zeros(0, dtype=np.uint8), np.zeros(2, dtype=np.int64),
        none, none, rows, np.zeros(4_096, dtype=np.uint8), np.zeros(2, dtype=np.int64), 16,
    )  # fmt: skip
    assert (status, slot) == (CORRUPT, 0)
