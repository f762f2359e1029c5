"""What a scorer counts of its scores, and of the reasons that it gives."""

from bisect import bisect_left
from collections import Counter as TallyOf
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

from models.decision import DecisionRecord

# Probabilities: finer where a policy's thresholds usually lie.
_SCORE_EDGES = (0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)


class _Sorted(Histogram):
    """A histogram without labels that takes all observations of a batch at once."""

    def observe_all(self, amounts: Sequence[float]) -> None:
        """Observe each; none is larger than the last edge."""
        self._sum.inc(sum(amounts))
        for place, count in TallyOf(bisect_left(self._upper_bounds, a) for a in amounts).items():
            self._buckets[place].inc(count)


class ScoreMetrics:
    """The distribution of scores, and why events were not approved; in the process's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start every metric at nothing."""
        self._scores = _Sorted(
            "riskbeat_score",
            "Probability of fraud, of decisions that rest on a model.",
            buckets=_SCORE_EDGES,
            registry=registry,
        )
        self._reasons = Counter(
            "riskbeat_reasons_total",
            "Reasons given with decisions that were not approved, or by chance only.",
            ["source", "code"],
            registry=registry,
        )

    def observe(self, records: Sequence[DecisionRecord]) -> None:
        """Count decisions that were made."""
        scores = [r.score.value for r in records if r.score.value is not None]
        if scores:
            self._scores.observe_all(scores)
        reasons: TallyOf[tuple[str, str]] = TallyOf()
        for record in records:
            if (record.would_be or record.outcome) != "approve":
                reasons.update((reason.source, reason.code) for reason in record.reasons)
        for (source, code), count in reasons.items():
            self._reasons.labels(source, code).inc(count)
