"""Figures of weighted rows, costs and reliability, each against its definition written out slowly.

The oracle of a row of weight k is k equal rows, counted one by one.
"""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cost import Costs, cheapest_of, cost_curve
from models.evaluation import FIGURES, NO_CARD, Scored, brier, figures_of
from models.evaluation_ranking import Ranking, importance_of, ranking_of
from models.evaluation_reliability import EDGES, bins_of, calibration_error

# fraud, score in sevenths, weight, amount
ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 7), st.integers(0, 3), st.integers(0, 50)),
    min_size=1,
    max_size=25,
)
Row = tuple[int, int, int, int]
NAN = float("nan")


def ranked(rows: list[Row]) -> Ranking:
    y, p, w, amount = (np.array(column) for column in zip(*rows, strict=True))
    return ranking_of(y.astype(np.uint8), p / 7, w.astype(float), amount.astype(float))


def repeated(rows: list[Row]) -> list[tuple[int, int, int]]:
    return [(y, p, amount) for y, p, w, amount in rows for _ in range(w)]


def alerted(plain: list[tuple[int, int, int]], share: float) -> list[tuple[int, int, int]]:
    count = max(int(share * len(plain)), 1)
    lowest = sorted((p for _, p, _ in plain), reverse=True)[count - 1]
    return [row for row in plain if row[1] >= lowest]


@settings(deadline=None)
@given(ROWS, st.sampled_from([0.01, 0.2, 0.5, 1.0]))
def test_shares_of_frauds_and_money_are_those_of_the_alerted_rows(
    rows: list[Row], share: float
) -> None:
    ranking, plain = ranked(rows), repeated(rows)
    frauds = sum(y for y, _, _ in plain)
    money = sum(y * amount for y, _, amount in plain)
    if not frauds:
        assert math.isnan(ranking.recall_at_alerted(share))
        assert math.isnan(ranking.false_positives_per_fraud(share))
        return
    chosen = alerted(plain, share)
    hits = sum(y for y, _, _ in chosen)
    assert ranking.recall_at_alerted(share) == pytest.approx(hits / frauds)
    per_fraud = (len(chosen) - hits) / hits if hits else NAN
    assert ranking.false_positives_per_fraud(share) == pytest.approx(per_fraud, nan_ok=True)
    value = sum(y * amount for y, _, amount in chosen) / money if money else NAN
    assert ranking.value_detection_rate(share) == pytest.approx(value, nan_ok=True)


@settings(deadline=None)
@given(ROWS)
def test_a_row_of_weight_k_is_k_rows(rows: list[Row]) -> None:
    plain = repeated(rows)
    same = (
        ranked([(y, p, 1, amount) for y, p, amount in plain])
        if plain
        else ranking_of(np.zeros(0, np.uint8), np.zeros(0))
    )
    ranking = ranked(rows)
    for name in ("score", "alerts", "frauds", "money"):
        np.testing.assert_allclose(getattr(ranking, name), getattr(same, name))
    assert ranking.average_precision() == pytest.approx(same.average_precision(), nan_ok=True)
    assert ranking.roc_auc() == pytest.approx(same.roc_auc(), nan_ok=True)
    assert ranking.recall_at_fpr(0.3) == pytest.approx(same.recall_at_fpr(0.3), nan_ok=True)


@settings(deadline=None)
@given(ROWS, st.integers(0, 30), st.integers(0, 30))
def test_the_cheapest_threshold_is_found_by_trying_all(
    rows: list[Row], false_alarm: int, review: int
) -> None:
    curve = cost_curve(ranked(rows), Costs(false_alarm, review))
    plain = repeated(rows)

    def cost(threshold: float) -> float:
        missed = sum(y * amount for y, p, amount in plain if p / 7 < threshold)
        alerts = [(y, p) for y, p, _ in plain if p / 7 >= threshold]
        return missed + sum(review + (false_alarm if not y else 0) for y, _ in alerts)

    for threshold in (0.0, 1 / 7, 0.3, 5 / 7, 1.0, 2.0, math.inf):
        assert curve.at(threshold) == pytest.approx(cost(threshold))
    cheapest = cheapest_of(curve)
    tried = [cost(score / 7) for score in range(8)] + [cost(math.inf)]
    assert cheapest.cost == pytest.approx(min(tried))
    assert cost(cheapest.threshold) == pytest.approx(cheapest.cost)
    assert cheapest.alerts == sum(p / 7 >= cheapest.threshold for _, p, _ in plain)


@settings(deadline=None)
@given(ROWS)
def test_bins_hold_each_row_once_and_brier_is_the_mean_squared_distance(rows: list[Row]) -> None:
    y, p, w = (np.array(column, float) for column in list(zip(*rows, strict=True))[:3])
    plain = repeated(rows)
    bins = bins_of(y.astype(np.uint8), p / 7, w)
    assert sum(one.weight for one in bins) == len(plain)
    if not plain:
        assert math.isnan(brier(y.astype(np.uint8), p / 7, w))
        assert math.isnan(calibration_error(y.astype(np.uint8), p / 7, w))
        return
    slow = sum((score / 7 - fraud) ** 2 for fraud, score, _ in plain) / len(plain)
    assert brier(y.astype(np.uint8), p / 7, w) == pytest.approx(slow)
    gap = 0.0
    for low, high in itertools.pairwise(EDGES):
        last = high == EDGES[-1]
        inside = [r for r in plain if low <= r[1] / 7 < high or (last and r[1] / 7 == high)]
        gap += abs(sum(score / 7 - fraud for fraud, score, _ in inside))
    assert calibration_error(y.astype(np.uint8), p / 7, w) == pytest.approx(gap / len(plain))


def test_an_interval_of_a_bin_is_wilsons() -> None:
    y = np.array([1] * 3 + [0] * 7, np.uint8)
    [one] = bins_of(y, np.full(10, 0.3))
    assert (one.rows, one.seen) == (10, pytest.approx(0.3))
    for end in (one.low, one.high):  # where the share would lie 1.96 of its own deviations away
        assert abs(0.3 - end) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 10))


def test_events_let_through_by_chance_make_up_for_those_that_were_stopped() -> None:
    """Of a world whose truth is known, a policy hides most; weighing gives it back, on average."""
    rng = np.random.default_rng(3)
    p = rng.beta(0.5, 3.0, 200_000)
    y = (rng.random(len(p)) < p).astype(np.uint8)
    stoppable = p >= 0.6
    passed = stoppable & (rng.random(len(p)) < 0.1)
    approved = ~stoppable | passed
    propensity = np.where(stoppable, np.where(passed, 0.1, 0.9), 1.0)
    w = importance_of(approved, propensity)
    assert set(w[stoppable & ~passed]) == {0.0}
    truth, weighed = ranking_of(y, p), ranking_of(y, p, w)
    seen = ranking_of(y[approved], p[approved])
    assert weighed.fraud_total == pytest.approx(truth.fraud_total, rel=0.02)
    found, true = weighed.average_precision(), truth.average_precision()
    assert found == pytest.approx(true, abs=0.01)
    assert seen.average_precision() < true - 0.05  # without weights, what is stopped is forgotten


def test_what_was_stopped_without_a_draw_stands_for_itself() -> None:
    approved, propensity = np.array([True, False, False]), np.array([1.0, 1.0, 0.99])
    assert importance_of(approved, propensity).tolist() == [1.0, 1.0, 0.0]


def some_scored(m: int = 400) -> Scored:
    rng = np.random.default_rng(1)
    p = rng.random(m)
    return Scored(
        (rng.random(m) < p / 3).astype(np.uint8),
        p,
        np.ones(m),
        rng.integers(1, 5000, m).astype(float),
        rng.integers(10, 14, m).astype(np.int64),
        rng.integers(0, 30, m).astype(np.int64),
    )


def test_all_figures_have_a_name_of_the_closed_set_and_exist_for_ordinary_rows() -> None:
    assert set(figures_of(some_scored(4_000), Costs())) == set(FIGURES)


def test_rows_that_nobody_scored_do_not_count() -> None:
    seen = some_scored()
    seen.p[::2] = np.nan
    rest = figures_of(seen.part(~np.isnan(seen.p)), Costs())
    assert figures_of(seen, Costs()) == rest
    assert rest["judged"] == 200


def test_days_that_may_be_cut_do_not_count_for_card_precision() -> None:
    seen = some_scored()
    inside = seen.part((seen.day > 10) & (seen.day < 13) & (seen.card != NO_CARD))
    cut = figures_of(seen, Costs(), edges_cut=True)
    assert cut["card_precision_at_100"] == figures_of(inside, Costs())["card_precision_at_100"]


def test_no_rows_have_no_figures() -> None:
    assert figures_of(some_scored(0), Costs()) == {"judged": 0.0}
    with pytest.raises(IndexError):
        ranking_of(np.zeros(0, np.uint8), np.zeros(0)).place_of_share(0.1)
