"""(p, y) as they become known → the figures by which fraud models are judged.

Rows of equal score are one threshold: no figure depends on the order of ties, except card
precision, which ranks cards and breaks ties by the smaller card. NaN means that a figure does not
exist, as when there is no fraud.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.cost import Costs, cheapest_of, cost_curve
from models.evaluation_ranking import FLOAT, ranking_of
from models.evaluation_reliability import calibration_error

CARDS_TOP: Final = 100
NO_CARD: Final = 0
FIGURES: Final = (
    "judged",
    "frauds",
    "fraud_rate",
    "average_precision",
    "roc_auc",
    "recall_at_tenth_percent_fpr",
    "recall_at_half_percent_fpr",
    "recall_at_one_percent_fpr",
    "recall_at_half_percent_alerted",
    "recall_at_one_percent_alerted",
    "value_detection_at_half_percent",
    "value_detection_at_one_percent",
    "false_positives_per_fraud_at_half_percent",
    "card_precision_at_100",
    "brier",
    "calibration_error",
    "cost_at_half_percent",
    "lowest_cost",
    "lowest_cost_threshold",
)
"""Names of all figures, a closed set; costs are minor units per event."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What one predictor believed of events whose truth is known. All of shape (m,).

    Attributes:
        y: 1 fraud, 0 legit.
        p: Probability that was given when the event was decided.
        w: How many events a row stands for (`evaluation_ranking.importance_of`).
        amount: Minor units of the base currency.
        day: Whole days since 1970 of the event's time.
        card: Who paid; `NO_CARD` counts for nobody.
    """

    y: NDArray[np.uint8]
    p: FLOAT
    w: FLOAT
    amount: FLOAT
    day: NDArray[np.int64]
    card: NDArray[np.int64]

    def __len__(self) -> int:
        """Rows held."""
        return len(self.y)

    def part(self, chosen: slice | NDArray[np.intp] | NDArray[np.bool_]) -> "Scored":
        """Return some of the rows."""
        return Scored(
            self.y[chosen],
            self.p[chosen],
            self.w[chosen],
            self.amount[chosen],
            self.day[chosen],
            self.card[chosen],
        )


def figures_of(seen: Scored, costs: Costs, *, edges_cut: bool = False) -> dict[str, float]:
    """Return every figure that exists for these rows, by name.

    Args:
        seen: The rows; those with a NaN probability (nobody was asked) do not count.
        costs: What errors cost.
        edges_cut: The first and the last day may be incomplete: card precision leaves them out.
    """
    seen = seen.part(~np.isnan(seen.p))
    ranking = ranking_of(seen.y, seen.p, seen.w, seen.amount)
    if not ranking.total:
        return {"judged": float(len(seen))}
    curve = cost_curve(ranking, costs)
    cheapest = cheapest_of(curve)
    cards = seen.card != NO_CARD
    if edges_cut:
        cards &= (seen.day > seen.day.min()) & (seen.day < seen.day.max())
    figures = {
        "judged": float(len(seen)),
        "frauds": float(seen.y.sum()),
        "fraud_rate": ranking.fraud_total / ranking.total,
        "average_precision": ranking.average_precision(),
        "roc_auc": ranking.roc_auc(),
        "recall_at_tenth_percent_fpr": ranking.recall_at_fpr(0.001),
        "recall_at_half_percent_fpr": ranking.recall_at_fpr(0.005),
        "recall_at_one_percent_fpr": ranking.recall_at_fpr(0.01),
        "recall_at_half_percent_alerted": ranking.recall_at_alerted(0.005),
        "recall_at_one_percent_alerted": ranking.recall_at_alerted(0.01),
        "value_detection_at_half_percent": ranking.value_detection_rate(0.005),
        "value_detection_at_one_percent": ranking.value_detection_rate(0.01),
        "false_positives_per_fraud_at_half_percent": ranking.false_positives_per_fraud(0.005),
        "card_precision_at_100": card_precision_at_k(
            seen.day[cards], seen.card[cards], seen.y[cards], seen.p[cards], CARDS_TOP
        ),
        "brier": brier(seen.y, seen.p, seen.w),
        "calibration_error": calibration_error(seen.y, seen.p, seen.w),
        "cost_at_half_percent": curve.at(float(ranking.score[ranking.place_of_share(0.005)]))
        / ranking.total,
        "lowest_cost": cheapest.cost / ranking.total,
        "lowest_cost_threshold": min(cheapest.threshold, 1.0),
    }
    return {name: value for name, value in figures.items() if np.isfinite(value)}


def average_precision(y: NDArray[np.uint8], p: FLOAT) -> float:
    """Return the step-wise area under precision-recall: sum of precision times gain in recall."""
    return ranking_of(y, p).average_precision()


def roc_auc(y: NDArray[np.uint8], p: FLOAT) -> float:
    """Return the chance that a fraud scores above a legit event; ties count half."""
    return ranking_of(y, p).roc_auc()


def recall_at_fpr(y: NDArray[np.uint8], p: FLOAT, fpr: float) -> float:
    """Return the largest recall of a threshold whose false positive rate is at most `fpr`."""
    return ranking_of(y, p).recall_at_fpr(fpr)


def brier(y: NDArray[np.uint8], p: FLOAT, w: FLOAT | None = None) -> float:
    """Return the mean squared distance of the probability from what happened."""
    wide = np.ones(len(y)) if w is None else w
    total = float(wide.sum())
    return float(np.sum(wide * (p - y) ** 2)) / total if total else float("nan")


def value_detection_rate(y: NDArray[np.uint8], p: FLOAT, amount: FLOAT, alert_rate: float) -> float:
    """Return the share of fraud money among the `alert_rate` highest scores (ties all in)."""
    return ranking_of(y, p, amount=amount).value_detection_rate(alert_rate)


def card_precision_at_k(
    day: NDArray[np.int64],
    card: NDArray[np.int64],
    y: NDArray[np.uint8],
    p: FLOAT,
    k: int = CARDS_TOP,
) -> float:
    """Return the mean over days of `card_precision_by_day`; NaN without a day."""
    precisions = card_precision_by_day(day, card, y, p, k)
    return float(np.mean(list(precisions.values()))) if precisions else float("nan")


def card_precision_by_day(
    day: NDArray[np.int64],
    card: NDArray[np.int64],
    y: NDArray[np.uint8],
    p: FLOAT,
    k: int = CARDS_TOP,
) -> dict[int, float]:
    """Return for each day the share of compromised cards among the k highest.

    A day's card has the highest score of its payments, and is compromised if any of them is a
    fraud. A card that was found compromised among the k is left out on later days. The divisor
    is k, also where fewer cards were seen. Cards are counted, not weighed.
    Source: Fraud Detection Handbook, chapter 4, `card_precision_top_k`.
    """
    found: set[int] = set()
    precisions = {}
    for today in np.unique(day):
        rows = np.flatnonzero(day == today)
        cards, group = np.unique(card[rows], return_inverse=True)
        best = np.full(len(cards), -np.inf)
        np.maximum.at(best, group, p[rows])
        bad = np.zeros(len(cards), np.bool_)
        np.logical_or.at(bad, group, y[rows] == 1)
        left = ~np.isin(cards, np.fromiter(found, np.int64, len(found)))
        order = np.lexsort((cards, -best))
        top = order[left[order]][:k]
        caught = cards[top][bad[top]]
        precisions[int(today)] = len(caught) / k
        found.update(caught.tolist())
    return precisions
