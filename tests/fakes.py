"""Ports kept in memory: each works, and passes the same contract as the real door."""

from collections.abc import Mapping, Sequence

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
from tests.fakes_epochs import MemoryEpochs, MemoryPartition, MemoryShelf

__all__ = ["MemoryFeatureStore", "MemoryShelf"]


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
        self.epochs = MemoryEpochs(shelf)
        self._ours = Pointer(epoch, updates_topic, partitions, spec_digest)
        self._attached = False

    def in_epoch(self, epoch: int, updates_topic: str) -> "MemoryFeatureStore":
        return MemoryFeatureStore(
            self.shelf,
            partitions=self._partitions,
            spec_digest=self._digest,
            updates_topic=updates_topic,
            epoch=epoch,
        )

    async def attach(self) -> Pointer:
        return self._follow(self.epochs.begin(self._ours))

    def _follow(self, pointer: Pointer) -> Pointer:
        if pointer.partitions != self._partitions:
            raise SchemaMismatch("filled under another partition count: run `riskbeat rebuild`")
        self._ours, self._attached = pointer, True
        self.epoch = pointer.epoch
        return pointer

    async def read_pointer(self) -> Pointer | None:
        return self.shelf.alive.get(self._digest)

    async def check_readable(self) -> bool:
        alive = self.shelf.alive.get(self._digest)
        if alive is not None:
            self._follow(alive)
        elif self.shelf.epochs:
            raise SchemaMismatch("no features of this spec: run `riskbeat rebuild`")
        return alive is not None

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
            self.epochs.revive(self._ours, self._attached)
            kept = MemoryPartition(self.epoch, self._partitions, self._digest)
            self.shelf.partitions[self.epoch, partition] = kept
        fresh_until_ms, watermarks = decode_watermarks(kept.mark)
        return PartitionMeta(kept.offset, watermarks, fresh_until_ms)

    async def load_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes]:
        kept = self.shelf.partitions.get((self.epoch, partition))
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
        kept.at_s = self.shelf.now_s()

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
        if not await self.check_readable():
            return Reads([b""] * len(keys), owners, {}, {})
        reads = Reads([], owners, {}, {})
        for key, p in zip(keys, owners, strict=True):
            kept = self.shelf.partitions.get((self.epoch, p))
            reads.blobs.append(kept.states.get(key, b"") if kept else b"")
            mark = decode_watermarks(kept.mark) if kept else (0, Watermarks())
            reads.fresh_until_ms[p], reads.watermarks[p] = mark
        return reads
