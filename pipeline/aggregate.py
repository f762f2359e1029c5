"""records of one updates partition → committed states: the step that counts each event once.

1 take the records that the store waits for · 2 decode, check their ranges · 3 judge lateness and
duplicates · 4 load cold states · 5 apply · 6 commit, with the offsets inside.
Whatever fails before or in 6 leaves the store as it was, or as it should become; the caller then
drops this aggregator's memory and opens the partition again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.spec import Spec
from features.store import (
    DEDUP_BUCKET_MS,
    UNKNOWN_OFFSET,
    Commit,
    DedupBucket,
    FeatureWriter,
    SchemaMismatch,
    Source,
    StoreEpochMismatch,
    Watermarks,
    horizon_floor,
)
from features.update import EntityUpdates, concat_updates
from features.window import apply_many
from pipeline.dedup import DUPLICATE, FRESH, LATE, SeenIdentities
from pipeline.featurize import FeaturizeLimits, LogRecord, UpdatesGap, UpdatesHole
from pipeline.hot import HotStates
from pipeline.updates import UpdateRecord, decode_record

NEW_STATE_BYTES = 512  # estimate for a state not yet seen
ROW_GROWTH_BYTES = 40  # estimate of what one row adds to a state


@dataclass(slots=True)
class Applied:
    """What a batch of records did.

    Attributes:
        rows: Rows applied.
        late: Entries older than the lateness limit; not applied.
        duplicates: Entries whose identity, or transition number, was seen; not applied.
        repeated: Rows below the watermark: a router repeated itself.
        commits: Commits made.
        states: States written.
        appended_ms: When the log took each applied entry (for freshness).
    """

    rows: int = 0
    late: int = 0
    duplicates: int = 0
    repeated: int = 0
    commits: int = 0
    states: int = 0
    appended_ms: list[NDArray[np.int64]] = field(default_factory=list)


@dataclass(slots=True)
class _Chunk:
    """What one commit will hold."""

    next_offset: int
    slots: dict[bytes, int] = field(default_factory=dict)
    slot: list[int] = field(default_factory=list)
    pieces: list[EntityUpdates] = field(default_factory=list)
    dedup_add: dict[DedupBucket, list[bytes]] = field(default_factory=dict)
    estimated_bytes: int = 0


class Aggregator:
    """Owns one updates partition while it is assigned to this process."""

    def __init__(
        self,
        spec: Spec,
        store: FeatureWriter,
        partition: int,
        *,
        source_partitions: Mapping[Source, int],
        limits: FeaturizeLimits,
        cache_max_bytes: int,
    ) -> None:
        """Hold the ports; `open` must come first.

        Args:
            spec: What states mean.
            store: Where they stay.
            partition: The updates partition.
            source_partitions: Count of partitions by source: freshness waits for each of them.
            limits: Size of a commit.
            cache_max_bytes: This partition's share of hot states.
        """
        self._spec = spec
        self._store = store
        self._partition = partition
        self._source_partitions = source_partitions
        self._limits = limits
        self.hot = self._hot = HotStates(cache_max_bytes)  # seen from outside by metrics
        self._reset()

    def _reset(self) -> None:
        self._hot.clear()
        self._seen: dict[int, SeenIdentities] = {}
        self._buckets: set[DedupBucket] = set()  # those that the store holds
        self._marks = Watermarks()
        self._next_offset = UNKNOWN_OFFSET

    @property
    def next_offset(self) -> int:
        """Offset of updates[partition] that comes next; -1 before `open`."""
        return self._next_offset

    @property
    def marks(self) -> Watermarks:
        """How far each source is in (not to be changed by the caller)."""
        return self._marks

    async def open(self, log_begins_at: int) -> int:
        """Forget all memory and read where the store stands; return the offset to seek to.

        Raises:
            StoreError: As `FeatureWriter.open_partition`.
        """
        self._reset()
        meta = await self._store.open_partition(self._partition, log_begins_at)
        horizon_ms = self._spec.dedup_horizon_ms
        kept = await self._store.load_dedup(self._partition, meta.watermarks, horizon_ms)
        for s, mark in enumerate(meta.watermarks.e):
            seen = {b.bucket: data for b, data in kept.items() if b.source_partition == s}
            self._seen[s] = SeenIdentities(horizon_ms, mark.clock_ms, seen)
        self._buckets = set(kept)
        self._marks = meta.watermarks
        self._next_offset = meta.next_offset
        return meta.next_offset

    async def apply(self, batch: Sequence[LogRecord]) -> Applied:
        """Apply and commit a batch; what lies below the stored offset is skipped.

        Raises:
            UpdatesGap: The batch begins beyond the offset that the store waits for.
            UpdatesHole: A source's range does not join its watermark.
            UpdatesUnreadable: A record is not ours.
            StoreEpochMismatch, SchemaMismatch: Records or store are of another epoch or spec.
            StoreConflict, StoreUnavailable: The commit failed: `open` again.
        """
        applied = Applied()
        chunk = _Chunk(self._next_offset)
        for record in batch:
            if record.offset < chunk.next_offset:
                continue
            if record.offset > chunk.next_offset:
                raise UpdatesGap(self._partition, chunk.next_offset, record.offset)
            update = decode_record(record.value or b"")
            self._check(update)
            self._take(update, chunk, applied)
            chunk.next_offset = record.offset + 1
            if chunk.estimated_bytes >= self._limits.commit_max_bytes:
                await self._commit(chunk, applied)
                chunk = _Chunk(self._next_offset)
        if chunk.next_offset > self._next_offset:
            await self._commit(chunk, applied)
        return applied

    def _check(self, update: UpdateRecord) -> None:
        header = update.header
        if header.epoch != self._store.epoch:
            raise StoreEpochMismatch(
                f"a record was made for epoch {header.epoch}, the store is in {self._store.epoch}"
            )
        if header.digest != self._spec.digest:
            raise SchemaMismatch(
                f"a record was made under feature spec {header.digest[:12]}, "
                f"ours is {self._spec.digest[:12]}: run `riskbeat rebuild`"
            )
        mark = self._marks.mark(update.source, header.source_partition)
        if mark.next_offset != UNKNOWN_OFFSET and header.first > mark.next_offset:
            raise UpdatesHole(
                f"updates partition {self._partition}: source {header.source} "
                f"{header.source_partition} goes on at {header.first}, "
                f"but only {mark.next_offset} is applied"
            )

    def _take(self, update: UpdateRecord, chunk: _Chunk, applied: Applied) -> None:
        """Judge one record's entries and put those that count into the chunk."""
        header = update.header
        mark = self._marks.mark(update.source, header.source_partition)
        known = mark.next_offset
        mark.next_offset = max(known, header.end)
        mark.until_ms = max(mark.until_ms, header.until_ms)
        new = int(np.searchsorted(update.offset, known)) if known != UNKNOWN_OFFSET else 0
        applied.repeated += new
        offset = update.offset[new:]
        if not offset.size:
            return
        starts = np.flatnonzero(np.diff(offset, prepend=-1)) + new
        judge = self._judge_events if update.source == "e" else self._judge_transitions
        counts = judge(update, starts, chunk, applied)
        applied.appended_ms.append(update.appended_ms[starts[counts]])
        sizes = np.diff(starts, append=update.offset.size)
        kept = np.flatnonzero(np.repeat(counts, sizes)) + new
        if kept.size:
            rows = update.rows if kept.size == update.offset.size else update.rows.take(kept)
            self._collect(rows, chunk)
            applied.rows += kept.size

    def _judge_events(
        self,
        update: UpdateRecord,
        starts: NDArray[np.intp],
        chunk: _Chunk,
        applied: Applied,
    ) -> NDArray[np.bool_]:
        s = update.header.source_partition
        seen = self._seen.get(s)
        if seen is None:
            seen = self._seen[s] = SeenIdentities(self._spec.dedup_horizon_ms, -1, {})
        identities, time_ms = update.rows.id[starts], update.rows.time_ms[starts]
        verdict = seen.judge(identities, time_ms)
        self._marks.mark("e", s).clock_ms = seen.clock_ms
        applied.late += int(np.count_nonzero(verdict == LATE))
        applied.duplicates += int(np.count_nonzero(verdict == DUPLICATE))
        fresh: NDArray[np.bool_] = np.equal(verdict, FRESH)
        buckets = time_ms // DEDUP_BUCKET_MS
        for bucket in np.unique(buckets[fresh]).tolist():
            data = identities[fresh & (buckets == bucket)].astype("<u8").tobytes()
            chunk.dedup_add.setdefault(DedupBucket(s, bucket), []).append(data)
            chunk.estimated_bytes += len(data)
        return fresh

    def _judge_transitions(
        self,
        update: UpdateRecord,
        starts: NDArray[np.intp],
        chunk: _Chunk,
        applied: Applied,
    ) -> NDArray[np.bool_]:
        mark = self._marks.mark("l", update.header.source_partition)
        seq = update.seq[starts]
        before = np.maximum.accumulate(np.concatenate([[mark.seq], seq]))
        fresh: NDArray[np.bool_] = np.greater(seq, before[:-1])
        mark.seq = int(before[-1])
        applied.duplicates += int(np.count_nonzero(~fresh))
        return fresh

    def _collect(self, rows: EntityUpdates, chunk: _Chunk) -> None:
        slots, hot, estimate = chunk.slots, self._hot, 0
        for key in rows.keys:
            slot = slots.get(key)
            if slot is None:
                slot = slots[key] = len(slots)
                estimate += len(key) + (len(hot.get(key) or b"") or NEW_STATE_BYTES)
            chunk.slot.append(slot)
        chunk.pieces.append(rows)
        chunk.estimated_bytes += estimate + ROW_GROWTH_BYTES * len(rows)

    async def _commit(self, chunk: _Chunk, applied: Applied) -> None:
        states: dict[bytes, bytes] = {}
        if chunk.pieces:
            keys = list(chunk.slots)
            blobs = await self._load(keys)
            slot = np.array(chunk.slot, np.int32)
            changed = apply_many(self._spec, blobs, slot, concat_updates(chunk.pieces))
            states = dict(zip(keys, changed, strict=True))
        floors = {
            s: horizon_floor(seen.clock_ms, self._spec.dedup_horizon_ms)
            for s, seen in self._seen.items()
        }
        dedup_add = {
            bucket: b"".join(parts)
            for bucket, parts in chunk.dedup_add.items()
            if bucket.bucket >= floors[bucket.source_partition]
        }
        dedup_drop = [b for b in self._buckets if b.bucket < floors[b.source_partition]]
        await self._store.commit_batch(
            Commit(
                partition=self._partition,
                expected_offset=self._next_offset,
                next_offset=chunk.next_offset,
                watermarks=self._marks,
                fresh_until_ms=self._marks.fresh_until_ms(self._source_partitions),
                states=states,
                dedup_add=dedup_add,
                dedup_drop=dedup_drop,
            )
        )
        self._next_offset = chunk.next_offset
        self._buckets = self._buckets.union(dedup_add).difference(dedup_drop)
        self._hot.keep(states)
        applied.commits += 1
        applied.states += len(states)

    async def _load(self, keys: Sequence[bytes]) -> list[bytes]:
        blobs = self._hot.find_many(keys)
        cold = [key for key, blob in zip(keys, blobs, strict=True) if blob is None]
        found = iter(await self._store.load_many(self._partition, cold) if cold else ())
        return [next(found) if blob is None else blob for blob in blobs]
