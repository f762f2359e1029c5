"""counts of the arms, limits → readings: what is seen of a candidate, and whether it is too much.

Without labels: errors, degraded answers, times, the distribution of scores, the rate of alerts.
With labels, when they come: precision, recall and average precision of what each arm decided.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple

import msgspec

from models.rollout_counts import (
    ArmCounts,
    JudgedCounts,
    psi_of_counts,
    quantile_ms,
    wilson,
)
from models.rollout_limits import Limits

FALLBACKS_MIN: Final = 3
"""One event that could not be scored is no pattern."""
TAIL: Final = 0.99

Slot = Literal["loading", "ready", "refused"]
Signal = Literal[
    "refused",
    "fallbacks",
    "degraded",
    "model_ms",
    "psi",
    "alerts",
    "recall",
    "precision",
    "average_precision",
]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker saw in one step; it replaces the worker's report before.

    Attributes:
        number: Of the rollout.
        step: Index of the step; counts of another one are worth nothing in this.
        slot: Whether the worker holds the candidate.
        detail: Why it was refused.
        version: Of the candidate that the worker holds; 0 for none.
        shadow: What the candidate said of events that both versions scored.
        beside: What the stable version said of the very same events.
    """

    number: int
    step: int
    slot: Slot
    detail: str = ""
    version: int = 0
    stable: ArmCounts = ArmCounts()
    candidate: ArmCounts = ArmCounts()
    shadow: ArmCounts = ArmCounts()
    beside: ArmCounts = ArmCounts()


class JudgedReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the decisions of a rollout, by the learner that judges them."""

    number: int
    stable: JudgedCounts = JudgedCounts()
    candidate: JudgedCounts = JudgedCounts()


class Signals(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers saw in a step, and what has become known of the rollout's decisions.

    Attributes:
        workers: That reported.
        ready: Of them: hold the candidate.
        refused: Why a worker cannot hold it; empty if all may.
    """

    workers: int = 0
    ready: int = 0
    refused: str = ""
    stable: ArmCounts = ArmCounts()
    candidate: ArmCounts = ArmCounts()
    shadow: ArmCounts = ArmCounts()
    beside: ArmCounts = ArmCounts()
    judged: JudgedReport | None = None


class Reading(NamedTuple):
    """One signal as it stands.

    Attributes:
        signal: Which one.
        stable: What the stable arm has; None if it is not compared.
        contender: What the candidate has; None while too little was seen.
        limit: Beyond which it is a breach.
        breached: Whether it is.
        text: A sentence that says so.
    """

    signal: Signal
    stable: float | None
    contender: float | None
    limit: float
    breached: bool
    text: str


def signals_of(
    number: int, step: int, reports: Mapping[str, Report], judged: JudgedReport | None
) -> Signals:
    """Add up the reports about this step of this rollout; others count for nothing."""
    mine = [one for one in reports.values() if (one.number, one.step) == (number, step)]
    refused = [
        f"{name}: {one.detail}"
        for name, one in reports.items()
        if one.number == number and one.slot == "refused"
    ]
    return Signals(
        workers=len(mine),
        ready=sum(one.slot == "ready" for one in mine),
        refused=min(refused, default=""),
        stable=_sum(one.stable for one in mine),
        candidate=_sum(one.candidate for one in mine),
        shadow=_sum(one.shadow for one in mine),
        beside=_sum(one.beside for one in mine),
        judged=judged if judged is not None and judged.number == number else None,
    )


def readings_of(
    stable: ArmCounts, contender: ArmCounts, arm: ArmCounts, signals: Signals, limits: Limits
) -> list[Reading]:
    """Return every signal with its limit.

    Args:
        stable: What the candidate is compared with.
        contender: The candidate, as it is compared.
        arm: All that was the candidate's to answer or, as a shadow, to score.
        signals: The rest of what was seen.
        limits: Beyond which is a breach.
    """
    judged = signals.judged or JudgedReport(number=0)
    known = min(judged.stable.frauds, judged.candidate.frauds) >= limits.judged_min
    return [
        _refused(signals),
        _fallbacks(arm, limits),
        _degraded(stable, contender, limits),
        _model_ms(stable, contender, limits),
        _psi(stable, contender, limits),
        _alerts(stable, contender, limits),
        _drop("recall", limits.recall_drop, known, judged, lambda a: (a.caught, a.frauds)),
        _drop("precision", limits.precision_drop, known, judged, lambda a: (a.caught, a.alerts)),
        _average_precision(judged, limits, known),
    ]


def _refused(signals: Signals) -> Reading:
    refused = bool(signals.refused)
    return Reading(
        "refused", None, float(refused), 0.0, refused, f"a worker refused it: {signals.refused}"
    )


def _fallbacks(arm: ArmCounts, limits: Limits) -> Reading:
    chosen = arm.decisions + arm.fallbacks
    if not chosen:
        return _unseen("fallbacks", limits.fallback_rate)
    low = wilson(arm.fallbacks, chosen).low
    breached = arm.fallbacks >= FALLBACKS_MIN and low > limits.fallback_rate
    text = f"it failed to answer {arm.fallbacks} of {chosen} events"
    rate = arm.fallbacks / chosen
    return Reading("fallbacks", None, rate, limits.fallback_rate, breached, text)


def _degraded(stable: ArmCounts, contender: ArmCounts, limits: Limits) -> Reading:
    if not _comparable(stable, contender, limits):
        return _unseen("degraded", limits.degraded_rate)
    mine, theirs = contender.degraded / contender.decisions, stable.degraded / stable.decisions
    low = wilson(contender.degraded, contender.decisions).low
    high = wilson(stable.degraded, stable.decisions).high
    text = f"{mine:.2%} of its answers are degraded, {theirs:.2%} of the others"
    limit = limits.degraded_rate
    return Reading("degraded", theirs, mine, limit, low > high + limit, text)


def _model_ms(stable: ArmCounts, contender: ArmCounts, limits: Limits) -> Reading:
    if not _comparable(stable, contender, limits):
        return _unseen("model_ms", limits.model_ms_ratio)
    mine, theirs = quantile_ms(contender.model_ms, TAIL), quantile_ms(stable.model_ms, TAIL)
    breached = mine > max(limits.model_ms_free, limits.model_ms_ratio * theirs)
    text = f"its forward pass takes {mine:g} ms at p99, the other {theirs:g} ms"
    return Reading("model_ms", theirs, mine, limits.model_ms_ratio, breached, text)


def _psi(stable: ArmCounts, contender: ArmCounts, limits: Limits) -> Reading:
    if not _comparable(stable, contender, limits):
        return _unseen("psi", limits.psi)
    moved = psi_of_counts(stable.scores, contender.scores)
    text = f"its scores lie elsewhere: PSI {moved:.3f}, at most {limits.psi:g}"
    return Reading("psi", None, moved, limits.psi, moved > limits.psi, text)


def _alerts(stable: ArmCounts, contender: ArmCounts, limits: Limits) -> Reading:
    if not _comparable(stable, contender, limits):
        return _unseen("alerts", limits.alert_ratio)
    mine = wilson(contender.alerts, contender.decisions)
    theirs = wilson(stable.alerts, stable.decisions)
    more = mine.low > limits.alert_ratio * theirs.high
    fewer = mine.high < theirs.low / limits.alert_ratio
    rates = contender.alerts / contender.decisions, stable.alerts / stable.decisions
    text = f"it alerts on {rates[0]:.2%}, the other on {rates[1]:.2%}"
    return Reading("alerts", rates[1], rates[0], limits.alert_ratio, more or fewer, text)


def _drop(
    signal: Literal["recall", "precision"],
    limit: float,
    known: bool,
    judged: JudgedReport,
    of: Callable[[JudgedCounts], tuple[float, float]],
) -> Reading:
    (hits, trials), (their_hits, their_trials) = of(judged.candidate), of(judged.stable)
    if not known or not trials or not their_trials:
        return _unseen(signal, limit)
    mine, theirs = hits / trials, their_hits / their_trials
    breached = wilson(hits, trials).high < wilson(their_hits, their_trials).low - limit
    text = f"its {signal} is {mine:.2f}, the other's {theirs:.2f}"
    return Reading(signal, theirs, mine, limit, breached, text)


def _average_precision(judged: JudgedReport, limits: Limits, known: bool) -> Reading:
    mine, theirs = judged.candidate.average_precision, judged.stable.average_precision
    limit = limits.average_precision_drop
    if not known or mine is None or theirs is None:
        return _unseen("average_precision", limit)
    frauds, their_frauds = judged.candidate.frauds, judged.stable.frauds
    # bounded like a rate among the frauds: wider than the truth, so that chance turns nothing back
    high = wilson(mine * frauds, frauds).high
    low = wilson(theirs * their_frauds, their_frauds).low
    text = f"its average precision is {mine:.3f}, the other's {theirs:.3f}"
    return Reading("average_precision", theirs, mine, limit, high < low - limit, text)


def _unseen(signal: Signal, limit: float) -> Reading:
    return Reading(signal, None, None, limit, False, "too little was seen")


def _comparable(stable: ArmCounts, contender: ArmCounts, limits: Limits) -> bool:
    return min(stable.decisions, contender.decisions) >= limits.compare_min


def _sum(counts: Iterable[ArmCounts]) -> ArmCounts:
    total = ArmCounts()
    for one in counts:
        total = total.plus(one)
    return total
