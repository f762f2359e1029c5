"""Ports kept in memory: each works, and passes the same contract as the real door."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from features.event import partition_of
from features.store import (
    Commit,
    DedupBucket,
    LogTruncated,
    PartitionMeta,
    Pointer,
    Reads,
    SchemaMismatch,
    Source,
    StoreConflict,
    StoreEpochMismatch,
    StoreError,
    Watermarks,
    decode_watermarks,
    encode_watermarks,
    live_buckets,
)


@dataclass
class MemoryPartition:
    """What is kept of one partition in one epoch."""

    epoch: int
    partitions: int
    digest: str
    offset: int = 0
    mark: bytes = field(default_factory=lambda: encode_watermarks(Watermarks(), 0))
    states: dict[bytes, bytes] = field(default_factory=dict)
    dedup: dict[DedupBucket, bytes] = field(default_factory=dict)


@dataclass
class MemoryShelf:
    """What several stores share, as several processes share one Redis."""

    pointer: Pointer | None = None
    partitions: dict[tuple[int, int], MemoryPartition] = field(default_factory=dict)
    positions: dict[tuple[int, Source, int], int] = field(default_factory=dict)


class MemoryFeatureStore:
    """`FeatureReader` and `FeatureWriter` over a `MemoryShelf`."""

    def __init__(
        self,
        shelf: MemoryShelf,
        *,
        partitions: int,
        spec_digest: str,
        updates_topic: str = "updates.v1",
        epoch: int = 0,
    ) -> None:
        self.shelf = shelf
        self.epoch = epoch
        self._partitions = partitions
        self._digest = spec_digest
        self._first = Pointer(epoch, updates_topic, partitions, spec_digest)

    async def attach(self) -> Pointer:
        if self.shelf.pointer is None:
            self.shelf.pointer = self._first
        return self._follow(self.shelf.pointer)

    def _follow(self, pointer: Pointer) -> Pointer:
        if (pointer.digest, pointer.partitions) != (self._digest, self._partitions):
            raise SchemaMismatch("filled under another spec: run `riskbeat rebuild`")
        self.epoch = pointer.epoch
        return pointer

    async def read_pointer(self) -> Pointer | None:
        return self.shelf.pointer

    async def flip_pointer(self, old: Pointer | None, new: Pointer) -> None:
        if self.shelf.pointer != old:
            raise StoreConflict("another epoch came alive meanwhile")
        self.shelf.pointer = new
        for (epoch, _), kept in self.shelf.partitions.items():
            if old is not None and epoch == old.epoch:
                kept.epoch = new.epoch

    def _kept(self, partition: int) -> MemoryPartition | None:
        kept = self.shelf.partitions.get((self.epoch, partition))
        if kept is None:
            return None
        if kept.epoch != self.epoch:
            raise StoreEpochMismatch(f"moved to epoch {kept.epoch}")
        if (kept.digest, kept.partitions) != (self._digest, self._partitions):
            raise SchemaMismatch("another spec or partition count")
        return kept

    async def open_partition(self, partition: int, log_begins_at: int) -> PartitionMeta:
        kept = self._kept(partition)
        if kept is None:
            if log_begins_at != 0:
                raise LogTruncated("the log's start is gone: run `riskbeat rebuild`")
            kept = MemoryPartition(self.epoch, self._partitions, self._digest)
            self.shelf.partitions[self.epoch, partition] = kept
        fresh_until_ms, watermarks = decode_watermarks(kept.mark)
        return PartitionMeta(kept.offset, watermarks, fresh_until_ms)

    async def load_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes]:
        kept = self._kept(partition)
        return [kept.states.get(key, b"") if kept else b"" for key in keys]

    async def load_across(self, wanted: Mapping[int, Sequence[bytes]]) -> list[bytes]:
        return [b for p, keys in wanted.items() for b in await self.load_many(p, keys)]

    async def load_dedup(
        self, partition: int, watermarks: Watermarks, horizon_ms: int
    ) -> dict[DedupBucket, bytes]:
        kept = self._kept(partition)
        wanted = live_buckets(watermarks, horizon_ms)
        return {b: kept.dedup[b] for b in wanted if b in kept.dedup} if kept else {}

    async def commit_batch(self, commit: Commit) -> None:
        kept = self._kept(commit.partition)
        if kept is None or kept.offset != commit.expected_offset:
            raise StoreConflict(f"stands at {kept.offset if kept else 'nothing'}")
        kept.states.update(commit.states)
        for bucket, data in commit.dedup_add.items():
            kept.dedup[bucket] = kept.dedup.get(bucket, b"") + data
        for bucket in commit.dedup_drop:
            kept.dedup.pop(bucket, None)
        kept.mark = encode_watermarks(commit.watermarks, commit.fresh_until_ms)
        kept.offset = commit.next_offset

    async def commit_many(self, commits: Sequence[Commit]) -> list[StoreError | None]:
        answers: list[StoreError | None] = []
        for commit in commits:
            try:
                await self.commit_batch(commit)
            except StoreError as error:
                answers.append(error)
            else:
                answers.append(None)
        return answers

    async def load_position(self, source: Source, partition: int) -> int | None:
        return self.shelf.positions.get((self.epoch, source, partition))

    async def store_positions(self, positions: Mapping[tuple[Source, int], int]) -> None:
        for (source, partition), offset in positions.items():
            self.shelf.positions[self.epoch, source, partition] = offset

    async def read_many(self, keys: Sequence[bytes]) -> Reads:
        owners = [partition_of(key, self._partitions) for key in keys]
        if self.shelf.pointer is None:
            return Reads([b""] * len(keys), owners, {}, {})
        self._follow(self.shelf.pointer)
        reads = Reads([], owners, {}, {})
        for key, p in zip(keys, owners, strict=True):
            kept = self.shelf.partitions.get((self.epoch, p))
            reads.blobs.append(kept.states.get(key, b"") if kept else b"")
            mark = decode_watermarks(kept.mark) if kept else (0, Watermarks())
            reads.fresh_until_ms[p], reads.watermarks[p] = mark
        return reads
