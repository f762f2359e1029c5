"""What a scorer has still to do: read from the log, write to it, show to those who look up."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class BacklogMetrics:
    """Lag of the stream door, the spool, the index of decisions; in the process's registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Start every metric at nothing."""
        self.stream_lag = Gauge(
            "riskbeat_stream_lag_records",
            "Records in the log that the stream door has still to take.",
            registry=registry,
        )
        self.spooled = Counter(
            "riskbeat_spooled_records_total",
            "Records that waited on disk for the log.",
            registry=registry,
        )
        self.spool_bytes = Gauge(
            "riskbeat_spool_bytes", "Bytes that wait on disk for the log.", registry=registry
        )
        self.spool_max_bytes = Gauge(
            "riskbeat_spool_max_bytes",
            "Bytes that may wait on disk for the log; beyond it nothing is decided.",
            registry=registry,
        )
        self.index_as_of = Gauge(
            "riskbeat_index_as_of_timestamp_seconds",
            "Up to when this machine's index of decisions is complete, seconds since 1970; 0: "
            "there is none.",
            registry=registry,
        )
