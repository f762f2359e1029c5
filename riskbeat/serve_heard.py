"""what happens in a serve process → its log and its metrics."""

import time
from collections.abc import Mapping, Sequence

import structlog

from api.metrics import ServeMetrics
from features.trace import Span, Tracer, context_of_version
from models.decision import DecisionRecord
from models.scorer import ACTIVE, Scorer
from models.weights import Weights

log = structlog.get_logger("serve")


class Heard:
    """Writes down what happens to versions, in the log and in the metrics."""

    def __init__(self, metrics: ServeMetrics, scorer: Scorer, tracer: Tracer | None = None) -> None:
        """Take the metrics, and who takes spans."""
        self._metrics = metrics
        self._scorer = scorer
        self._tracer = tracer

    def weights_activated(self, weights: Weights, label_appends_ms: Sequence[int]) -> None:
        """A version became active in this process, with what these labels taught."""
        now_ms = time.time_ns() // 1_000_000
        for at_ms in label_appends_ms:
            self._metrics.label_serving_seconds.observe((now_ms - at_ms) / 1000)
        self._metrics.weights_version.set(weights.version)
        self._metrics.weights_created.set(weights.created_at_ms / 1000)
        self._metrics.weights_swaps.inc()
        log.debug("weights.activated", weights_version=weights.version)
        if self._tracer is not None:
            self._trace_activated(self._tracer, weights, len(label_appends_ms))

    def _trace_activated(self, tracer: Tracer, weights: Weights, labels: int) -> None:
        """Take the span from a version's making until it answers here."""
        published = context_of_version(self._scorer.snapshot(ACTIVE).sha256)
        tracer.take(
            Span(
                name="weights.activate",
                context=tracer.child_of(published),
                parent=published,
                began_ns=weights.created_at_ms * 1_000_000,
                ended_ns=time.time_ns(),
                facts={"weights_version": weights.version, "labels_told": labels},
            )
        )

    def weights_refused(self, version: int, gate: str, detail: str) -> None:
        """A gate refused a version; the active one stays."""
        self._metrics.weights_refused.labels(gate).inc()
        log.warning("weights.refused", weights_version=version, gate=gate, detail=detail)

    def fleet_seen(self, versions: Mapping[str, int]) -> None:
        """Which scorer answers with which version."""
        self._metrics.weights_spread.set(max(versions.values()) - min(versions.values()))
        self._metrics.weights_scorers.set(len(versions))

    def registry_failed(self, detail: str) -> None:
        """The registry did not answer; the active version stays."""
        log.warning("registry.unavailable", detail=detail)

    def decided(self, records: Sequence[DecisionRecord], seconds: float) -> None:
        """HTTP decided a batch."""
        self._metrics.observe_batch(records, "http", seconds)

    def repeated(self, kind: str) -> None:
        """A request had an answer already, or contradicted one."""
        self._metrics.repeats.labels(kind).inc()
