"""what one arm of a rollout answered → counts that add up over workers, and rates with bounds.

Everything here is a sum, so reports of many processes merge in any order. Scores and times are
kept as histograms over fixed edges, the same in each process.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

SCORE_EDGES: Final = tuple(half / 2 for half in range(-24, 17))
"""Log-odds from -12 to 8 by halves; beyond lie the two outermost bins."""
MODEL_MS_EDGES: Final = (
    *(0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5),
    *(2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 25.0, 50.0, 100.0),
)
"""Milliseconds of one forward pass; 25 is the budget of the model."""
GROUPS: Final = 10
"""Bins of a PSI: about tenths of the stable arm's scores."""
SHARE_MIN: Final = 0.5
"""Rows that an empty bin counts as: keeps the logarithm finite."""
SIGMAS: Final = 3.0
"""A rate's bounds hold it with a chance of 99.7 %: a rollout looks at them again and again."""


class ArmCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What one arm did.

    Attributes:
        decisions: Answered by this arm; of the shadow: scored beside another answer.
        fallbacks: Events that were the arm's, and that the stable arm had to answer; of the
            shadow: events that it failed to score.
        skipped: Of the shadow: events that it was not asked about, for want of time.
        degraded: Of the decisions: made without a part of what they should rest on.
        alerts: Of the decisions: not approved, or let through by chance only.
        agreed: Of the shadow: would have been ruled like the answer that was given.
        apart: Of the shadow: sum of |Δ log-odds| from the answer that was given.
        scores: Per bin of `SCORE_EDGES`: decisions.
        model_ms: Per bin of `MODEL_MS_EDGES`: decisions, by the time of the pass that scored them.
    """

    decisions: int = 0
    fallbacks: int = 0
    skipped: int = 0
    degraded: int = 0
    alerts: int = 0
    agreed: int = 0
    apart: float = 0.0
    scores: tuple[int, ...] = (0,) * (len(SCORE_EDGES) + 1)
    model_ms: tuple[int, ...] = (0,) * (len(MODEL_MS_EDGES) + 1)

    def __post_init__(self) -> None:
        """Refuse counts of other edges.

        Raises:
            ValueError: There are more or fewer bins.
        """
        if (
            len(self.scores) != len(SCORE_EDGES) + 1
            or len(self.model_ms) != len(MODEL_MS_EDGES) + 1
        ):
            raise ValueError("counts over other edges: is another build reporting?")

    def plus(self, other: "ArmCounts") -> "ArmCounts":
        """Return both together."""
        return ArmCounts(
            decisions=self.decisions + other.decisions,
            fallbacks=self.fallbacks + other.fallbacks,
            skipped=self.skipped + other.skipped,
            degraded=self.degraded + other.degraded,
            alerts=self.alerts + other.alerts,
            agreed=self.agreed + other.agreed,
            apart=self.apart + other.apart,
            scores=_added(self.scores, other.scores),
            model_ms=_added(self.model_ms, other.model_ms),
        )


class JudgedCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an arm's decisions, once it was known. Weighted by propensity.

    Attributes:
        frauds: Of those judged.
        alerts: Of those judged: were not approved, or let through by chance only.
        caught: Frauds among the alerts.
        average_precision: Of the arm's own probabilities; None while it does not exist.
    """

    judged: float = 0.0
    frauds: float = 0.0
    alerts: float = 0.0
    caught: float = 0.0
    average_precision: float | None = None


class Bounds(NamedTuple):
    """Between which a rate lies, nearly surely."""

    low: float
    high: float


def wilson(hits: float, trials: float, sigmas: float = SIGMAS) -> Bounds:
    """Return bounds of the rate behind `hits` of `trials`; (0, 1) without trials.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.
    """
    if trials <= 0:
        return Bounds(0.0, 1.0)
    rate, z2 = min(hits / trials, 1.0), sigmas * sigmas
    middle = rate + z2 / (2 * trials)
    spread = sigmas * math.sqrt(rate * (1 - rate) / trials + z2 / (4 * trials * trials))
    scale = 1 + z2 / trials
    return Bounds(max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


def score_bin(logit: float) -> int:
    """Return the place of a score in `ArmCounts.scores`; what is no number is the highest."""
    return len(SCORE_EDGES) if math.isnan(logit) else bisect_right(SCORE_EDGES, logit)


def model_ms_bin(took_ms: float) -> int:
    """Return the place of a time in `ArmCounts.model_ms`."""
    return bisect_right(MODEL_MS_EDGES, took_ms)


def quantile_ms(counts: Sequence[int], share: float) -> float:
    """Return an upper bound of a quantile of times: the edge above it; 0 without counts."""
    total, seen = sum(counts), 0
    for place, count in enumerate(counts):
        seen += count
        if total and seen >= share * total:
            return MODEL_MS_EDGES[min(place, len(MODEL_MS_EDGES) - 1)]
    return 0.0


def psi_of_counts(before: Sequence[int], now: Sequence[int]) -> float:
    """Return how far one histogram lies from another, without what chance alone makes of it.

    PSI = Σ (now - before)·ln(now / before) over at most `GROUPS` groups of bins that hold about
    equal shares of `before`. Two samples of one distribution have (groups - 1)·(1/m + 1/n) on
    average: that is taken off, so a small sample does not look like a shift. Never below 0.
    Source: Yurdakul and Naranjo, Statistical Properties of the Population Stability Index, 2020.
    """
    m, n = sum(before), sum(now)
    if not m or not n:
        return 0.0
    was, is_now = _grouped(before, now)
    chance = (len(was) - 1) * (1 / m + 1 / n)
    moved = sum(
        (b / n_sum - a / m_sum) * math.log((b / n_sum) / (a / m_sum))
        for m_sum, n_sum in [(sum(was), sum(is_now))]
        for a, b in zip(was, is_now, strict=True)
    )
    return max(0.0, moved - chance)


def _grouped(before: Sequence[int], now: Sequence[int]) -> tuple[list[float], list[float]]:
    """Join neighbouring bins until each group holds its share of `before`.

    A bin that holds as much by itself is a group by itself, or a move below it would not show.
    """
    size = sum(before) / GROUPS
    was: list[float] = []
    is_now: list[float] = []
    for a, b in zip(before, now, strict=True):
        if not was or was[-1] >= size or a >= size:
            was.append(0.0)
            is_now.append(0.0)
        was[-1] += a
        is_now[-1] += b
    return [max(a, SHARE_MIN) for a in was], [max(b, SHARE_MIN) for b in is_now]


def _added(one: Sequence[int], other: Sequence[int]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(one, other, strict=True))
