"""What the pipeline's processes count and measure, for Prometheus.

Those of the featurize workers; `learn_metrics` has the learner's. Help is a sentence; labels are
closed sets.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import HistogramMetricFamily

from features.store import Source
from pipeline.chunk import Applied
from pipeline.hot import HotStates
from pipeline.tls_files import TlsFiles

# 1 ms … 10 s; 60 ms is the promised p99 of freshness, 15 ms its promised mean.
FRESHNESS_BUCKETS_S = (
    0.001, 0.002, 0.004, 0.006, 0.01, 0.015, 0.025, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
)  # fmt: skip
# 0.1 ms … 1 s, one step of routing or aggregating.
STEP_BUCKETS_S = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


class BulkHistogram:
    """A histogram that takes many observations at once: thousands of rows per commit."""

    def __init__(
        self, name: str, help_text: str, edges: Sequence[float], registry: CollectorRegistry
    ) -> None:
        """Register under a name; `edges` are upper bounds, ascending, without infinity."""
        self._name = name
        self._help = help_text
        self._edges = np.asarray(edges, np.float64)
        self._counts = np.zeros(len(edges) + 1, np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe_many(self, values: ArrayLike) -> None:
        """Take all of these observations."""
        taken = np.asarray(values, np.float64)
        slots = np.searchsorted(self._edges, taken, side="left")
        self._counts += np.bincount(slots, minlength=self._counts.size)
        self._sum += float(taken.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yield the family for an exposition."""
        bounds = [*(f"{edge:g}" for edge in self._edges), "+Inf"]
        totals = np.cumsum(self._counts).tolist()
        buckets = [(bound, float(total)) for bound, total in zip(bounds, totals, strict=True)]
        family = HistogramMetricFamily(self._name, self._help)
        family.add_metric([], buckets, self._sum)
        yield family


class FeaturizeMetrics:
    """The metrics of one featurize worker."""

    def __init__(self) -> None:
        """Make them in a registry of their own."""
        self.registry = CollectorRegistry()
        r = self.registry
        self.events = Counter(
            "riskbeat_events",
            "Events taken from the log, by what became of them.",
            ["outcome"],
            registry=r,
        )
        self.label_updates = Counter(
            "riskbeat_label_updates",
            "Label transitions taken from the log, by what became of them.",
            ["outcome"],
            registry=r,
        )
        self.rejects = Counter(
            "riskbeat_rejects",
            "Records sent to the dead-letter topic, by reason.",
            ["code"],
            registry=r,
        )
        self.updates = Counter(
            "riskbeat_updates",
            "Entity updates reaching an updates partition, by what became of them.",
            ["outcome"],
            registry=r,
        )
        self.commits = Counter(
            "riskbeat_commits",
            "Commits to the feature store, by outcome.",
            ["outcome"],
            registry=r,
        )
        self.store_errors = Counter(
            "riskbeat_redis_errors",
            "Times that the feature store gave no answer, by kind of failure.",
            ["kind"],
            registry=r,
        )
        self.states = Counter(
            "riskbeat_states_written", "States written to the feature store.", registry=r
        )
        self.partitions = Gauge(
            "riskbeat_partitions_owned",
            "Partitions assigned to this worker, by step.",
            ["step"],
            registry=r,
        )
        self.lag = Gauge(
            "riskbeat_lag_records",
            "Records in the log that this worker has still to take, by step.",
            ["step"],
            registry=r,
        )
        self.steps = Histogram(
            "riskbeat_featurize_seconds",
            "Time of one step over one batch, waits included.",
            ["step"],
            buckets=STEP_BUCKETS_S,
            registry=r,
        )
        self.freshness = BulkHistogram(
            "riskbeat_event_freshness_seconds",
            "Time from an event's append to the log until it can be read in the feature store.",
            FRESHNESS_BUCKETS_S,
            r,
        )
        self._make_cache()
        self._begin_at_zero()

    def _make_cache(self) -> None:
        """Make the metrics of the worker's memory of states."""
        r = self.registry
        self.cache_lookups = Counter(
            "riskbeat_cache_lookups",
            "States looked for in the worker's memory; a miss is read from the feature store.",
            ["outcome"],
            registry=r,
        )
        self.cache_evicted = Counter(
            "riskbeat_cache_evicted",
            "States that left the worker's memory because it was full.",
            registry=r,
        )
        self.cache_states = Gauge(
            "riskbeat_cache_states", "States in the worker's memory.", registry=r
        )
        self.cache_bytes = Gauge(
            "riskbeat_cache_bytes", "Bytes of the states in the worker's memory.", registry=r
        )

    def _begin_at_zero(self) -> None:
        """Show every outcome before it first happens: zero is a fact."""
        for counter, outcomes in (
            (self.events, ("accepted", "rejected")),
            (self.label_updates, ("accepted", "rejected")),
            (self.updates, ("applied", "late", "duplicate", "repeated")),
            (self.commits, ("ok", "conflict", "unavailable")),
            (self.store_errors, ("connection", "timeout", "refused")),
            (self.cache_lookups, ("hit", "miss")),
        ):
            for outcome in outcomes:
                counter.labels(outcome)

    def count_cache(self, caches: Sequence[HotStates]) -> None:
        """Take what the caches of all owned partitions counted since the last call."""
        for cache in caches:
            counts = cache.take_counts()
            self.cache_lookups.labels("hit").inc(counts.hits)
            self.cache_lookups.labels("miss").inc(counts.misses)
            self.cache_evicted.inc(counts.evicted)
        self.cache_states.set(sum(map(len, caches)))
        self.cache_bytes.set(sum(cache.bytes_held for cache in caches))

    def count_routed(self, source: Source, accepted: int, codes: Sequence[str]) -> None:
        """Count what a batch of a source's records became; `codes` are those of its rejects."""
        counter = self.events if source == "e" else self.label_updates
        counter.labels("accepted").inc(accepted)
        for code in codes:
            counter.labels("rejected").inc()
            self.rejects.labels(code).inc()

    def count(self, done: Sequence[Applied], now_ms: int) -> None:
        """Count what batches of several partitions did, once they are committed."""
        self.commits.labels("ok").inc(sum(applied.commits for applied in done))
        self.states.inc(sum(applied.states for applied in done))
        for outcome, count in (
            ("applied", sum(applied.rows for applied in done)),
            ("late", sum(applied.late for applied in done)),
            ("duplicate", sum(applied.duplicates for applied in done)),
            ("repeated", sum(applied.repeated for applied in done)),
        ):
            if count:
                self.updates.labels(outcome).inc(count)
        appended_ms = [part for applied in done for part in applied.appended_ms]
        if appended_ms:
            self.freshness.observe_many((now_ms - np.concatenate(appended_ms)) / 1000)

    def serve(self, port: int, address: str = "127.0.0.1", tls: TlsFiles | None = None) -> int:
        """Answer scrapes from a thread of its own; return the port (a free one for 0)."""
        return serve_page(self.registry, port, address, tls)


def serve_page(
    registry: CollectorRegistry, port: int, address: str, tls: TlsFiles | None = None
) -> int:
    """Answer scrapes from a thread of its own, over TLS if there are files for it.

    Returns:
        The port, a free one for 0.

    Raises:
        OSError: The port is taken, or the files are no certificate and its key.
    """
    if tls is None:
        return int(start_http_server(port, address, registry)[0].server_port)
    pair = str(tls.certfile), str(tls.keyfile or tls.certfile)
    server, _ = start_http_server(port, address, registry, *pair)
    listening: Any = server.socket
    listening.do_handshake_on_connect = False  # who is silent keeps its own thread, and not all
    tls.follow(listening.context)
    return int(server.server_port)
