"""What one featurize worker is told, as values: steps never see the settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from features.epochs import Epochs
from features.spec import Spec
from features.store import FeatureWriter, Pointer
from features.topics import Topics
from features.trace import Tracer
from pipeline.featurize import FeaturizeLimits
from pipeline.tls_files import TlsFiles

DAY_MS = 24 * 3600 * 1000


class WorkerStore(FeatureWriter, Protocol):
    """What worker and rebuild ask of the store beside the steps' port."""

    @property
    def epochs(self) -> Epochs:
        """The epochs of the store, over all specs."""

    async def attach(self) -> Pointer:
        """Find the epoch that lives for our spec, or make the first of an empty store."""

    def in_epoch(self, epoch: int, updates_topic: str) -> "WorkerStore":
        """Return a store that writes an epoch which is not alive yet."""


@dataclass(frozen=True, slots=True)
class FeaturizeConfig:
    """Everything that one worker is told.

    Attributes:
        kafka_options: As every aiokafka client takes them.
        retention_days: Of events and label updates: at least the longest window.
        session_timeout_s: How long a dead worker's partitions wait for another.
        fetch_max_wait_s: How long the broker may hold a fetch when nothing is there. Short, because
            the client fetches a partition again only when its fetch for the others is back: with
            0.25 s half of the events at 300/s waited 60 ms and more, with 0.02 s 15 ms.
        instance_id: Static group membership, if given.
        store_wait_s: How long an unavailable store is waited for before the worker stops.
        stall_s: How long there may be something to read without progress.
        metrics_port: Where to answer scrapes; `None` for nowhere.
        metrics_tls: Files of the certificate that scrapes are answered with; `None` without TLS.
        data_dir: Where Faust may keep files; a temporary folder if `None`.
        tracer: Takes spans; none where nothing is traced.
    """

    spec: Spec
    store: WorkerStore
    kafka_options: Mapping[str, Any]
    topics: Topics = field(default_factory=Topics)
    events_partitions: int = 4
    label_partitions: int = 4
    updates_partitions: int = 8
    replication: int = 1
    retention_days: int = 35
    updates_retention_ms: int = DAY_MS
    limits: FeaturizeLimits = field(default_factory=FeaturizeLimits)
    session_timeout_s: float = 6.0
    max_poll_interval_s: float = 120.0
    fetch_max_wait_s: float = 0.02
    fetch_max_bytes: int = 1024 * 1024
    instance_id: str | None = None
    store_wait_s: float = 30.0
    stall_s: float = 60.0
    metrics_port: int | None = None
    metrics_address: str = "127.0.0.1"
    metrics_tls: TlsFiles | None = None
    data_dir: Path | None = None
    tracer: Tracer | None = None


def plan_topics(config: FeaturizeConfig, updates_topic: str) -> list[tuple[str, int, int]]:
    """Return (topic, partitions, retention in ms) of everything that a worker touches."""
    topics = config.topics
    days_ms = config.retention_days * DAY_MS
    return [
        (topics.events, config.events_partitions, days_ms),
        (topics.label_updates, config.label_partitions, days_ms),
        (updates_topic, config.updates_partitions, config.updates_retention_ms),
        (topics.dead, 1, days_ms),
    ]
