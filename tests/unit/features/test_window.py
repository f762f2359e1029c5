"""The kernel against the brute-force oracle, and the law that a state is a function of a set."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.spec import Spec
from features.window import warm_up
from tests.oracle import EVENT, LABEL, Oracle, Row
from tests.oracle_answer import difference
from tests.unit.features.specs import (
    AMOUNT_MAX,
    SMALL,
    ask,
    fold,
    row_sets,
    spec_of,
    times,
)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    spec = spec_of(SMALL, tmp_path_factory.mktemp("small"))
    warm_up(spec)
    return spec


@settings(max_examples=300, deadline=None)
@given(rows=row_sets(), asked=st.lists(times, min_size=1, max_size=4))
def test_every_feature_equals_the_oracle(spec: Spec, rows: list[Row], asked: list[int]) -> None:
    for entity in spec.entities:
        blob = fold(spec, entity.index, rows)
        oracle = Oracle(spec, entity, rows)
        edges = [
            row.time_ms + level.window_ms + off
            for row in oracle.heads[EVENT][:2] + oracle.heads[LABEL][:1] + oracle.behind[EVENT][-1:]
            for level in entity.levels
            for off in (-1, 0)
        ]
        for at_ms in [*asked, *edges, *(row.time_ms for row in rows[-2:])]:
            own = rows[-1].id if rows else 0
            got, late = ask(spec, entity.index, blob, at_ms, own)
            wrong = difference(entity.feature_names, got, oracle.answers(at_ms, own))
            assert not wrong, (at_ms, own, wrong)
            assert late == oracle.late(at_ms, own)


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
