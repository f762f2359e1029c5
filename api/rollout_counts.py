"""DecisionRecords → what this worker reports of the arms of a rollout."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from models.decision import DecisionRecord, Outcome, RolloutRef, ShadowScore
from models.rollout_counts import (
    MODEL_MS_EDGES,
    SCORE_EDGES,
    ArmCounts,
    model_ms_bin,
    score_bin,
)

APPROVE: Final = "approve"


class _Sum:
    """One arm's counts while they grow."""

    def __init__(self) -> None:
        self.decisions = self.fallbacks = self.skipped = 0
        self.degraded = self.alerts = self.agreed = 0
        self.apart = 0.0
        self.scores = [0] * (len(SCORE_EDGES) + 1)
        self.model_ms = [0] * (len(MODEL_MS_EDGES) + 1)

    def add(self, logit: float, took_ms: float, *, alert: bool, degraded: bool) -> None:
        self.decisions += 1
        self.alerts += alert
        self.degraded += degraded
        self.scores[score_bin(logit)] += 1
        self.model_ms[model_ms_bin(took_ms)] += 1

    def counts(self) -> ArmCounts:
        return ArmCounts(
            decisions=self.decisions,
            fallbacks=self.fallbacks,
            skipped=self.skipped,
            degraded=self.degraded,
            alerts=self.alerts,
            agreed=self.agreed,
            apart=self.apart,
            scores=tuple(self.scores),
            model_ms=tuple(self.model_ms),
        )


class Counted(NamedTuple):
    """All arms at one moment; see `models.rollout_signals.Report`."""

    stable: ArmCounts
    candidate: ArmCounts
    shadow: ArmCounts
    beside: ArmCounts


class ArmTally:
    """Counts the decisions of one step of one rollout; a new step begins at nothing."""

    def __init__(self) -> None:
        """Count nothing before the first `begin`."""
        self._at = (0, 0)
        self._reset()

    def begin(self, number: int, step: int) -> None:
        """Count a step from nothing, unless it is the one that is counted."""
        if (number, step) != self._at:
            self._at = (number, step)
            self._reset()

    def observe(self, records: Sequence[DecisionRecord]) -> None:
        """Count decisions that were made; those of other steps do not count."""
        for record in records:
            ref = record.rollout
            if ref is None or (ref.number, ref.step) != self._at:
                continue
            logit = record.score.logit
            assert logit is not None, "an arm has a version"
            if ref.arm == "fallback":
                self._candidate.fallbacks += 1
            else:
                arm = self._candidate if ref.arm == "candidate" else self._stable
                alert = (record.would_be or record.outcome) != APPROVE
                arm.add(logit, ref.pass_ms, alert=alert, degraded=bool(record.degraded))
            for one in record.shadow:
                self._observe_shadow(one, logit, ref)

    def counted(self) -> Counted:
        """Return what was counted in this step."""
        return Counted(
            self._stable.counts(),
            self._candidate.counts(),
            self._shadow.counts(),
            self._beside.counts(),
        )

    def _observe_shadow(self, one: ShadowScore, logit: float, ref: RolloutRef) -> None:
        """Count an event that both versions scored; where the candidate answered, they swap."""
        shadow, beside = self._shadow, self._beside
        if one.state == "skipped":
            shadow.skipped += 1
        elif one.state == "failed" or one.logit is None or one.pass_ms is None:
            shadow.fallbacks += 1
        else:
            said, answered = (beside, shadow) if ref.arm == "candidate" else (shadow, beside)
            said.add(one.logit, one.pass_ms, alert=_alerts(one.outcome), degraded=False)
            answered.add(logit, ref.pass_ms, alert=_alerts(one.beside), degraded=False)
            shadow.agreed += one.outcome == one.beside
            shadow.apart += abs(one.logit - logit)

    def _reset(self) -> None:
        self._stable, self._candidate, self._shadow, self._beside = (_Sum() for _ in range(4))


def _alerts(outcome: Outcome | None) -> bool:
    return outcome != APPROVE
