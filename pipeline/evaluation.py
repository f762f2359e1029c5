"""Evaluation: all that a report says of judged predictions, as plain values."""

from datetime import datetime

import msgspec

from models.cost import Costs
from models.evaluation_reliability import Bin
from pipeline.judged import Mark


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows are. Amounts are minor units of the base currency."""

    judged: int
    frauds: int
    fraud_amount: float
    passed_through: int
    passed_through_frauds: int
    passed_through_fraud_amount: float
    stopped: int
    first_event: datetime
    last_event: datetime
    versions: tuple[int, int]
    sources: dict[str, int]


class Curve(msgspec.Struct, frozen=True):
    """Points to draw."""

    x: list[float]
    y: list[float]


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """One event day: figures by predictor and name."""

    day: datetime
    judged: int
    frauds: int
    passed_through: int
    versions: tuple[int, int]
    figures: dict[str, dict[str, float]]


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """Mean and standard deviation over days of a predictor's figure minus the champion's."""

    days: int
    mean: float
    sd: float


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """A threshold of the policy, and what alerting from it upwards would have cost."""

    outcome: str
    threshold: float
    cost_per_event: float


class Belief(msgspec.Struct, frozen=True, kw_only=True):
    """One predictor.

    Attributes:
        figures: Over all rows.
        against: Figure → its daily distance from the champion's; empty for the champion.
        pr: Recall, precision.
        roc: False positive rate, recall.
        bins: Of reliability.
        cost: Threshold (falling), cost per event.
        rolling: Figure → time in ms, value over the newest rows then.
    """

    name: str
    figures: dict[str, float]
    against: dict[str, Against]
    pr: Curve
    roc: Curve
    bins: list[Bin]
    cost: Curve
    rolling: dict[str, Curve]


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """All that a report says.

    Attributes:
        delays: Kind of truth → hours from event to judgement, at shares of the rows.
        delay_hours: Kind of truth → edges and counts of a histogram.
        bounds: Of the policy's default ladder.
    """

    counts: Counts
    costs: Costs
    predictors: list[Belief]
    days: list[Day]
    marks: list[Mark]
    bounds: list[Bound]
    delays: dict[str, dict[str, float]]
    delay_hours: dict[str, Curve]
    rolling_rows: int
