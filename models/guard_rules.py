"""what the guard is told, and what it says: values only."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.health import HealthRules
from models.label_rates import RateRules

LOGIT_MAX = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardRules:
    """What the guard is told.

    Attributes:
        significance: ADWIN's δ; smaller is calmer.
        score_block_rows: Decided rows whose mean is one value of the detector.
        drift_after_rows: Decided rows before drift is acted on: a model that warms up drifts.
        drift_pace: Learning pace right after a drift; 1 = does not react.
        drift_half_life_ms: Event time in which that wears off by half.
        alert_share: Highest scores that are alerts, where precision is watched.
        health: Of candidates.
        rates: Of label sources.
    """

    significance: float = 0.002
    score_block_rows: int = 8
    drift_after_rows: int = 20_000
    drift_pace: float = 3.0
    drift_half_life_ms: float = 6 * 3_600_000.0
    alert_share: float = 0.01
    health: HealthRules = field(default_factory=HealthRules)
    rates: RateRules = field(default_factory=RateRules)


class GuardEvent(NamedTuple):
    """A fact for the log: a name in the past tense, and its fields."""

    name: str
    fields: dict[str, float | int | str]


class Gauges(NamedTuple):
    """What the guard knows at a moment, for the metrics page.

    Attributes:
        psi: Feature → PSI of the day that ended last; NaN before two days did.
        drifts: Stream → drifts found since the beginning.
        means: Stream → mean that holds now.
        widths: Stream → rows that it rests on.
        pace: Learning pace.
        causes: Kind of cause → whether one of it speaks against publishing.
    """

    psi: dict[str, float]
    drifts: dict[str, int]
    means: dict[str, float]
    widths: dict[str, int]
    pace: float
    causes: dict[str, bool]


def bounded_logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-odds of probabilities, clamped to ±8, moved to [0, 1]."""
    p = np.clip(p, 1e-9, 1 - 1e-9)
    logit = np.clip(np.log(p / (1 - p)), -LOGIT_MAX, LOGIT_MAX)
    return np.asarray((logit + LOGIT_MAX) / (2 * LOGIT_MAX))
