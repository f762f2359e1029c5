"""what a learner holds, and what it has still to take → gauges of its metrics page."""

from collections.abc import Callable, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge

LOGS = ("decisions", "labels")


class Holding(Protocol):
    """A join store, as far as it says how full it is; `join_sqlite.SqliteJoinStore`."""

    @property
    def rows(self) -> int:
        """Decided events kept."""

    @property
    def held(self) -> int:
        """Labels that wait for their decision."""

    @property
    def used_bytes(self) -> int:
        """Bytes of decided events."""


class HeldMetrics:
    """Lag of the log and size of the join store, asked for when they are scraped."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make them in the learner's registry."""
        self._lag = Gauge(
            "riskbeat_learn_lag_records",
            "Records in the log that the learner has still to take, by topic.",
            ["topic"],
            registry=registry,
        )
        self._bytes = Gauge(
            "riskbeat_join_bytes", "Bytes of decided events in the join store.", registry=registry
        )
        self._max_bytes = Gauge(
            "riskbeat_join_max_bytes",
            "Bytes of decided events beyond which the oldest leave the join store.",
            registry=registry,
        )
        self._rows = Gauge(
            "riskbeat_join_rows", "Decided events in the join store.", registry=registry
        )
        self._labels = Gauge(
            "riskbeat_join_held_labels",
            "Labels in the join store that wait for their decision.",
            registry=registry,
        )

    def watch_log(self, behind: Callable[[], Mapping[str, int]]) -> None:
        """Show a log's lag from now on; `behind` is asked from the scrape's thread."""
        for topic in LOGS:
            self._lag.labels(topic).set_function(lambda topic=topic: behind()[topic])  # type: ignore[misc]

    def watch_store(self, store: Holding, max_bytes: int) -> None:
        """Show how full a store is from now on."""
        self._max_bytes.set(max_bytes)
        self._bytes.set_function(lambda: store.used_bytes)
        self._rows.set_function(lambda: store.rows)
        self._labels.set_function(lambda: store.held)
