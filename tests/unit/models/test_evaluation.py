"""Every figure against its definition, written out slowly."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.evaluation import (
    average_precision,
    brier,
    card_precision_at_k,
    recall_at_fpr,
    roc_auc,
    value_detection_rate,
)

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 3), st.integers(0, 4)),
    min_size=1,
    max_size=30,
)
Row = tuple[int, int, int, int]


def columns(rows: list[Row]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    y = np.array([row[0] for row in rows], np.uint8)
    return y, np.array([row[1] / 7 for row in rows])


def slow_average_precision(rows: list[Row]) -> float:
    frauds = sum(row[0] for row in rows)
    total, recall = 0.0, 0.0
    for threshold in sorted({row[1] for row in rows}, reverse=True):
        alerts = [row for row in rows if row[1] >= threshold]
        hits = sum(row[0] for row in alerts)
        total += (hits / frauds - recall) * hits / len(alerts)
        recall = hits / frauds
    return total


def slow_card_precision(rows: list[Row], k: int) -> float:
    found: set[int] = set()
    precisions = []
    for day in sorted({row[2] for row in rows}):
        best: dict[int, tuple[float, int]] = {}
        for y, p, _, card in (row for row in rows if row[2] == day):
            score, fraud = best.get(card, (-1.0, 0))
            best[card] = (max(score, p), max(fraud, y))
        ranked = sorted(
            (card for card in best if card not in found), key=lambda card: (-best[card][0], card)
        )
        caught = [card for card in ranked[:k] if best[card][1]]
        precisions.append(len(caught) / k)
        found.update(caught)
    return sum(precisions) / len(precisions)


@settings(deadline=None)
@given(ROWS)
def test_average_precision_is_its_definition(rows: list[Row]) -> None:
    found = average_precision(*columns(rows))
    if any(row[0] for row in rows):
        assert found == pytest.approx(slow_average_precision(rows))
    else:
        assert np.isnan(found)


@settings(deadline=None)
@given(ROWS)
def test_auc_is_the_chance_that_a_fraud_scores_higher(rows: list[Row]) -> None:
    found = roc_auc(*columns(rows))
    frauds = [row[1] for row in rows if row[0]]
    legits = [row[1] for row in rows if not row[0]]
    if not frauds or not legits:
        assert np.isnan(found)
        return
    wins = [(a > b) + (a == b) / 2 for a, b in itertools.product(frauds, legits)]
    assert found == pytest.approx(sum(wins) / len(wins))


@settings(deadline=None)
@given(ROWS, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_recall_at_fpr_is_the_best_allowed_threshold(rows: list[Row], fpr: float) -> None:
    found = recall_at_fpr(*columns(rows), fpr)
    frauds = [row[1] for row in rows if row[0]]
    legits = [row[1] for row in rows if not row[0]]
    if not frauds or not legits:
        assert np.isnan(found)
        return
    recalls = [
        sum(score >= threshold for score in frauds) / len(frauds)
        for threshold in range(8)
        if sum(score >= threshold for score in legits) <= fpr * len(legits)
    ]
    assert found == pytest.approx(max(recalls))


@settings(deadline=None)
@given(ROWS, st.integers(1, 4))
def test_card_precision_is_the_books(rows: list[Row], k: int) -> None:
    y, p = columns(rows)
    day = np.array([row[2] for row in rows], np.int64)
    card = np.array([row[3] for row in rows], np.int64)
    assert card_precision_at_k(day, card, y, p, k) == pytest.approx(slow_card_precision(rows, k))


def test_value_detection_counts_money() -> None:
    y = np.array([1, 1, 0, 0], np.uint8)
    p = np.array([0.9, 0.1, 0.5, 0.2])
    amount = np.array([30.0, 70.0, 500.0, 1.0])
    assert value_detection_rate(y, p, amount, 0.25) == pytest.approx(0.3)
    assert value_detection_rate(y, p, amount, 1.0) == 1.0
    assert np.isnan(value_detection_rate(np.zeros(4, np.uint8), p, amount, 0.5))


def test_brier_is_the_mean_squared_distance() -> None:
    assert brier(np.array([1, 0], np.uint8), np.array([0.8, 0.1])) == pytest.approx(0.025)


def test_nothing_has_no_figures() -> None:
    y, p = np.zeros(0, np.uint8), np.zeros(0)
    none = np.zeros(0, np.int64)
    figures = (
        average_precision(y, p),
        roc_auc(y, p),
        recall_at_fpr(y, p, 0.1),
        brier(y, p),
        card_precision_at_k(none, none, y, p),
    )
    assert np.isnan(figures).all()
