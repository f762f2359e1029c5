"""Window states, and how far the log is in them → Redis and back: the one place where they stay.

A state never stands without its offsets: whatever is written is written together, and whoever
reads a partition reads states and watermarks of one moment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import msgspec

UNKNOWN_OFFSET = -1
NO_CLOCK_MS = -1
DEDUP_BUCKET_MS = 60_000

Source = Literal["e", "l"]  # events.v1 and label_updates.v1
SOURCES: tuple[Source, Source] = ("e", "l")


class StoreError(RuntimeError):
    """Base of everything that the feature store refuses or fails to do."""


class StoreConflict(StoreError):
    """Somebody else committed this partition since we read it: we are the zombie, or raced one."""


class StoreEpochMismatch(StoreError):
    """The store lives in another epoch: it was rebuilt, and this process must start again."""


class SchemaMismatch(StoreError):
    """The store was filled under another feature spec, or another number of partitions."""


class LogTruncated(StoreError):
    """The log no longer holds what the store lacks; only `riskbeat rebuild` can fill it."""


class StoreEvicts(StoreError):
    """Redis may drop keys when memory is short; states would vanish from under their offsets."""


class StoreUnavailable(StoreError):
    """Redis gave no answer; a write may or may not have happened.

    Attributes:
        kind: Closed set of reasons, fit for a metric label.
    """

    def __init__(self, kind: str, detail: str) -> None:
        """Name the kind of failure, and what Redis said."""
        super().__init__(f"{kind}: {detail}")
        self.kind = kind


class SourceMark(msgspec.Struct, array_like=True):
    """How far one source partition's log is in one partition's states.

    Attributes:
        next_offset: First offset that is not yet in; -1 before the first record.
        clock_ms: Largest event time seen from there; -1 before the first event.
        seq: Number of the newest label transition applied (label source only).
        until_ms: Everything that the source partition had taken by then is in.
    """

    next_offset: int = UNKNOWN_OFFSET
    clock_ms: int = NO_CLOCK_MS
    seq: int = 0
    until_ms: int = 0


class Watermarks(msgspec.Struct, array_like=True):
    """One partition's marks, by source and source partition."""

    e: list[SourceMark] = []
    l: list[SourceMark] = []  # noqa: E741 (the wire's name of the label source)

    def mark(self, source: Source, partition: int) -> SourceMark:
        """Return the (mutable) mark of one source partition, made on first use."""
        marks = self.e if source == "e" else self.l
        while len(marks) <= partition:
            marks.append(SourceMark())
        return marks[partition]

    def next_offsets(self) -> dict[str, list[int]]:
        """Return what a decision records: source → next offset by source partition."""
        return {"e": [m.next_offset for m in self.e], "l": [m.next_offset for m in self.l]}

    def fresh_until_ms(self, source_partitions: Mapping[Source, int]) -> int:
        """Return the time up to which every source's entries are in; 0 if one never spoke."""
        spoken = [
            self.mark(source, partition).until_ms
            for source, count in source_partitions.items()
            for partition in range(count)
        ]
        return min(spoken, default=0)


_encoder = msgspec.msgpack.Encoder()
_watermarks = msgspec.msgpack.Decoder(tuple[int, Watermarks])


def encode_watermarks(watermarks: Watermarks, fresh_until_ms: int) -> bytes:
    """Return the bytes that stand beside a partition's states, for its readers."""
    return _encoder.encode((fresh_until_ms, watermarks))


def decode_watermarks(data: bytes) -> tuple[int, Watermarks]:
    """Return (`fresh_until_ms`, watermarks) of `encode_watermarks`' bytes.

    Raises:
        SchemaMismatch: The bytes are not ours.
    """
    try:
        return _watermarks.decode(data)
    except msgspec.MsgspecError as error:
        raise SchemaMismatch(f"unreadable watermarks: {error}") from error


@dataclass(frozen=True, slots=True)
class PartitionMeta:
    """What the store knows of one updates partition when a worker opens it."""

    next_offset: int
    watermarks: Watermarks
    fresh_until_ms: int


@dataclass(frozen=True, slots=True)
class DedupBucket:
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
