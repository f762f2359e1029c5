"""Window states, and how far the log is in them → Redis and back: the one place where they stay.

A state never stands without its offsets: whatever is written is written together, and whoever
reads a partition reads states and watermarks of one moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import msgspec

from features.store_errors import (
    LogTruncated,
    SchemaMismatch,
    StoreConflict,
    StoreEpochMismatch,
    StoreError,
    StoreEvicts,
    StoreUnavailable,
)
from features.watermarks import (
    NO_CLOCK_MS,
    SOURCES,
    UNKNOWN_OFFSET,
    Source,
    SourceMark,
    Watermarks,
    decode_watermarks,
    encode_watermarks,
)

__all__ = [
    "DEDUP_BUCKET_MS",
    "NO_CLOCK_MS",
    "SOURCES",
    "UNKNOWN_OFFSET",
    "Commit",
    "DedupBucket",
    "FeatureReader",
    "FeatureWriter",
    "LogTruncated",
    "PartitionMeta",
    "Pointer",
    "Reads",
    "SchemaMismatch",
    "Source",
    "SourceMark",
    "StoreConflict",
    "StoreEpochMismatch",
    "StoreError",
    "StoreEvicts",
    "StoreUnavailable",
    "Watermarks",
    "decode_watermarks",
    "encode_watermarks",
    "horizon_floor",
    "live_buckets",
]

DEDUP_BUCKET_MS = 60_000


@dataclass(frozen=True, slots=True)
class PartitionMeta:
    """What the store knows of one updates partition when a worker opens it."""

    next_offset: int
    watermarks: Watermarks
    fresh_until_ms: int


class DedupBucket(NamedTuple):
    """Names 60 s of event time of one source partition, in one updates partition."""

    source_partition: int
    bucket: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Everything that one step of one partition changes; written whole or not at all.

    Attributes:
        expected_offset: What the store must still hold as next offset of updates[partition].
        states: Entity key → the state's new canonical bytes.
        dedup_add: Packed little-endian u64 identity hashes to append, by bucket.
        dedup_drop: Buckets that fell behind the horizon.
    """

    partition: int
    expected_offset: int
    next_offset: int
    watermarks: Watermarks
    fresh_until_ms: int
    states: Mapping[bytes, bytes] = field(default_factory=dict)
    dedup_add: Mapping[DedupBucket, bytes] = field(default_factory=dict)
    dedup_drop: Sequence[DedupBucket] = ()


class Pointer(msgspec.Struct, frozen=True):
    """Which epoch of the store is alive, and what it was made for."""

    epoch: int
    updates_topic: str
    partitions: int
    digest: str


@dataclass(frozen=True, slots=True)
class Reads:
    """States as of one moment per partition, with how old that moment is.

    Attributes:
        blobs: One per key asked, `b""` where the entity has no state.
        partition: The updates partition that owns each key.
        watermarks: By partition read: which log offsets are in these states.
        fresh_until_ms: By partition read: up to when the log is in (0 = never written).
    """

    blobs: list[bytes]
    partition: list[int]
    watermarks: dict[int, Watermarks]
    fresh_until_ms: dict[int, int]


class FeatureReader(Protocol):
    """What a scorer sees of the store.

    Guaranteed: states and watermarks of one partition belong together. Not guaranteed: that two
    partitions are of the same moment.
    Implementations: `store_redis.RedisFeatureStore`, `tests.fakes.MemoryFeatureStore`.
    """

    async def read_many(self, keys: Sequence[bytes]) -> Reads:
        """Read the states of many entities in one round trip.

        Raises:
            SchemaMismatch: The living epoch was made for another spec or partition count.
            StoreUnavailable: No answer within the client's timeout.
        """


class FeatureWriter(Protocol):
    """What a featurize worker sees of the store: one epoch of it.

    Guaranteed: a commit is whole or absent, and happens only on top of the state that its
    writer read. Not guaranteed: that a commit which raised `StoreUnavailable` did not happen.
    Implementations: `store_redis.RedisFeatureStore`, `tests.fakes.MemoryFeatureStore`.
    """

    @property
    def epoch(self) -> int:
        """The epoch that this writer writes."""

    async def open_partition(self, partition: int, log_begins_at: int) -> PartitionMeta:
        """Return where the partition stands; the first open of all makes it.

        Args:
            partition: Partition of the updates topic.
            log_begins_at: First offset that updates[partition] still holds.

        Raises:
            LogTruncated: The store knows nothing of the partition, and the log's start is gone.
            StoreEpochMismatch: Another epoch is alive.
            SchemaMismatch: Another spec or partition count filled it.
            StoreUnavailable: No answer.
        """

    async def load_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes]:
        """Return the states of keys that the partition owns, `b""` where there is none.

        Raises:
            StoreUnavailable: No answer.
        """

    async def load_across(self, wanted: Mapping[int, Sequence[bytes]]) -> list[bytes]:
        """Return the states of keys by the partition that owns them, in the order asked.

        Raises:
            StoreUnavailable: No answer.
        """

    async def load_dedup(
        self, partition: int, watermarks: Watermarks, horizon_ms: int
    ) -> dict[DedupBucket, bytes]:
        """Return the identity hashes within the horizon of each source partition's clock.

        Raises:
            StoreUnavailable: No answer.
        """

    async def commit_batch(self, commit: Commit) -> None:
        """Write all of it in one atomic step, if the store is where the writer believes.

        Raises:
            StoreConflict: `expected_offset` is not the stored one.
            StoreEpochMismatch: Another epoch is alive, or the partition vanished.
            SchemaMismatch: Another spec or partition count filled it.
            StoreUnavailable: No answer; it may or may not be written.
        """

    async def commit_many(self, commits: Sequence[Commit]) -> list[StoreError | None]:
        """Write commits of different partitions in one round trip, each atomic by itself.

        Returns:
            For each, what `commit_batch` would have raised, or none.

        Raises:
            StoreUnavailable: No answer at all; any of them may or may not be written.
        """

    async def load_position(self, source: Source, partition: int) -> int | None:
        """Return the offset from which a router must go on, `None` if it never stored one.

        Raises:
            StoreUnavailable: No answer.
        """

    async def store_positions(self, positions: Mapping[tuple[Source, int], int]) -> None:
        """Keep router positions; call only with what every updates partition has acknowledged.

        Raises:
            StoreUnavailable: No answer.
        """

    async def read_pointer(self) -> Pointer | None:
        """Return which epoch is alive, `None` in an empty store.

        Raises:
            StoreUnavailable: No answer.
        """


def horizon_floor(clock_ms: int, horizon_ms: int) -> int:
    """Return the oldest dedup bucket that still matters at a clock."""
    return max(0, clock_ms - horizon_ms) // DEDUP_BUCKET_MS


def live_buckets(watermarks: Watermarks, horizon_ms: int) -> list[DedupBucket]:
    """Return every dedup bucket that may hold hashes within the horizon."""
    buckets: list[DedupBucket] = []
    for partition, mark in enumerate(watermarks.e):
        if mark.clock_ms == NO_CLOCK_MS:
            continue
        floor = horizon_floor(mark.clock_ms, horizon_ms)
        newest = mark.clock_ms // DEDUP_BUCKET_MS
        buckets.extend(DedupBucket(partition, bucket) for bucket in range(floor, newest + 1))
    return buckets
