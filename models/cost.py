"""Ranking, Costs → what each threshold costs, and the one that costs least.

A fraud that is missed costs its amount; an alert costs a review; an alert about an honest payment
costs the customer's trouble on top.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.evaluation_ranking import Ranking

FLOAT = NDArray[np.float64]
FALSE_ALARM_MINOR = 1_000
REVIEW_MINOR = 300


@dataclass(frozen=True, slots=True)
class Costs:
    """Money in minor units of the base currency, for one event each.

    Attributes:
        false_alarm: An honest payment was alerted.
        review: Anything was alerted.
    """

    false_alarm: float = FALSE_ALARM_MINOR
    review: float = REVIEW_MINOR

    def __post_init__(self) -> None:
        """Refuse gains."""
        assert self.false_alarm >= 0
        assert self.review >= 0


ASSUMED = Costs()


@dataclass(frozen=True, slots=True, eq=False)
class CostCurve:
    """What alerting from a threshold upwards would have cost.

    Attributes:
        threshold: Falling, float64, shape (t,); the first is infinity: nothing is alerted.
        cost: In minor units, of all rows together.
        alerts: Weight of what is alerted.
        events: Weight of all rows.
    """

    threshold: FLOAT
    cost: FLOAT
    alerts: FLOAT
    events: float

    def at(self, threshold: float) -> float:
        """Return the cost of a threshold that need not be one of the scores."""
        place = int(np.searchsorted(-self.threshold, -threshold, side="right")) - 1
        return float(self.cost[max(place, 0)])


class Cheapest(NamedTuple):
    """The threshold that costs least; of equal ones the highest, which troubles the fewest."""

    threshold: float
    cost: float
    alerts: float


def cost_curve(ranking: Ranking, costs: Costs) -> CostCurve:
    """Return the cost of every threshold; of the single one, infinity, without rows."""
    lost = float(ranking.money[-1]) if ranking.money.size else 0.0
    alerted = costs.review * ranking.alerts + costs.false_alarm * (ranking.alerts - ranking.frauds)
    return CostCurve(
        threshold=np.concatenate([[np.inf], ranking.score]),
        cost=np.concatenate([[lost], lost - ranking.money + alerted]),
        alerts=np.concatenate([[0.0], ranking.alerts]),
        events=ranking.total,
    )


def cheapest_of(curve: CostCurve) -> Cheapest:
    """Return the threshold that would have cost least: known only afterwards."""
    place = int(np.argmin(curve.cost))
    return Cheapest(
        float(curve.threshold[place]), float(curve.cost[place]), float(curve.alerts[place])
    )
