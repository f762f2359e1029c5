"""What became of spans, for Prometheus; in every process that traces."""

from prometheus_client import CollectorRegistry, Counter

OUTCOMES = ("exported", "failed", "dropped")


class TraceMetrics:
    """The one metric of a tracer, in the registry of its process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Begin at nothing."""
        self._spans = Counter(
            "riskbeat_trace_spans_total",
            "Spans, by what became of them: exported, refused by where they should go, or dropped "
            "because too many waited.",
            ["outcome"],
            registry=registry,
        )
        for outcome in OUTCOMES:
            self._spans.labels(outcome)

    def count(self, outcome: str, spans: int) -> None:
        """Count spans."""
        self._spans.labels(outcome).inc(spans)
