"""What both steps of featurize share: the shape of a log record, the limits, the refusals.

`pipeline/route.py` turns a source's bytes into per-partition records; `pipeline/aggregate.py`
turns those into committed states; `pipeline/featurize_faust.py` runs both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from features.store import Source

ROUTE_MAX_RECORDS = 5_000
UPDATE_RECORD_MAX_BYTES = 512 * 1024
UPDATE_RECORD_MAX_ROWS = 1_024
COMMIT_MAX_BYTES = 1024 * 1024
CACHE_MAX_BYTES = 512 * 1024 * 1024
RANGE_HEARTBEAT_S = 0.25
IDLE_HEARTBEAT_S = 1.0


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class LogRecord(Protocol):
    """One record as a broker's client hands it over.

    Attributes:
        offset: Its place in its partition.
        timestamp: When the log took it, ms since 1970 (topics are `LogAppendTime`).
    """

    @property
    def offset(self) -> int: ...  # noqa: D102

    @property
    def timestamp(self) -> int: ...  # noqa: D102

    @property
    def value(self) -> bytes | None: ...  # noqa: D102

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class FeaturizeLimits:
    """Every bound of routing and aggregating.

    Attributes:
        route_max_records: Source records handled at once (also one fetch's bound).
        update_record_max_bytes: Size of one record of the updates topic.
        update_record_max_rows: Rows of one record, so that one commit stays small.
        commit_max_bytes: Estimated size of one commit; split at record boundaries.
        cache_max_bytes: Hot states in memory, over all partitions of the worker.
        range_heartbeat_s: A partition without rows learns after so long how far the source is.
        idle_heartbeat_s: A partition of an idle source learns after so long that it is idle.
    """

    route_max_records: int = ROUTE_MAX_RECORDS
    update_record_max_bytes: int = UPDATE_RECORD_MAX_BYTES
    update_record_max_rows: int = UPDATE_RECORD_MAX_ROWS
    commit_max_bytes: int = COMMIT_MAX_BYTES
    cache_max_bytes: int = CACHE_MAX_BYTES
    range_heartbeat_s: float = RANGE_HEARTBEAT_S
    idle_heartbeat_s: float = IDLE_HEARTBEAT_S


@dataclass(frozen=True, slots=True)
class Layout:
    """Which topics there are, and how many partitions they have.

    Attributes:
        sources: Topic → which source it is.
        source_partitions: Count of partitions by source.
        updates: The updates topic of the store's epoch.
        updates_partitions: Its count of partitions.
        dead: The dead-letter topic.
    """

    sources: Mapping[str, Source]
    source_partitions: Mapping[Source, int]
    updates: str
    updates_partitions: int
    dead: str


class UpdatesHole(RuntimeError):
    """A source's range does not join what is applied: entries were lost on the way to us."""


class UpdatesGap(RuntimeError):
    """The next record of updates[p] is not the one that the store waits for: seek to it.

    Attributes:
        next_offset: Where to read on.
    """

    def __init__(self, partition: int, next_offset: int, found: int) -> None:
        """Name the partition, the offset awaited, and the one that came."""
        super().__init__(f"updates partition {partition}: awaited {next_offset}, got {found}")
        self.next_offset = next_offset
