"""records of one updates partition → what to commit: the step that counts each event once.

1 take the records that the store waits for · 2 check their ranges · 3 judge lateness and
duplicates. What counts becomes a `Chunk`; `pipeline.together` loads, applies and commits the
chunks of all partitions at once, each commit with its offsets inside, and tells us what stands.
Whatever fails leaves the store as it was, or as it should become; the caller then drops this
aggregator's memory and opens the partition again.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

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
from features.update import EntityUpdates
from pipeline.chunk import Applied, Chunk, by_bucket
from pipeline.dedup import SeenIdentities
from pipeline.featurize import FeaturizeLimits, LogRecord, UpdatesGap, UpdatesHole
from pipeline.hot import HotStates
from pipeline.updates import RoutedHere, UpdateRecord, decode_record

NEW_STATE_BYTES = 512  # estimate for a state not yet seen
ROW_GROWTH_BYTES = 40  # estimate of what one row adds to a state


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
        self._floors: dict[int, int] = {}  # by source partition, as of the last commit
        self._marks = Watermarks()  # of what was applied here, committed or not yet
        self._committed: Mapping[str, Sequence[int]] = {}
        self._next_offset = UNKNOWN_OFFSET

    @property
    def partition(self) -> int:
        """The updates partition."""
        return self._partition

    @property
    def next_offset(self) -> int:
        """Offset of updates[partition] that comes next; -1 before `open`."""
        return self._next_offset

    def committed(self, source: Source, partition: int) -> int:
        """Return up to which offset the store holds a source partition; the next one."""
        offsets = self._committed.get(source, ())
        return offsets[partition] if partition < len(offsets) else 0

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
        self._committed = meta.watermarks.next_offsets()
        self._next_offset = meta.next_offset
        return meta.next_offset

    def cut(self, batch: Sequence[LogRecord], applied: Applied) -> Iterator[Chunk]:
        """Yield what to commit, one chunk after another; `settle` each before asking for the next.

        What lies below the stored offset is skipped; so is what this process routed itself, if
        something stands before it in the log that has not been fetched: it will be fetched too.

        Raises:
            UpdatesGap: The batch begins beyond the offset that the store waits for.
            UpdatesHole: A source's range does not join its watermark.
            UpdatesUnreadable: A record is not ours.
            StoreEpochMismatch, SchemaMismatch: Records are of another epoch or spec.
        """
        chunk = Chunk(self._next_offset)
        for record in sorted(batch, key=attrgetter("offset")):
            if record.offset < chunk.next_offset:
                continue
            here = record if isinstance(record, RoutedHere) else None
            if record.offset > chunk.next_offset:
                if here is not None:
                    applied.ahead = record.offset + 1
                    continue
                raise UpdatesGap(self._partition, chunk.next_offset, record.offset)
            update = decode_record(record.value or b"") if here is None else here.update
            self._check(update)
            self._take(update, chunk, applied)
            chunk.next_offset = record.offset + 1
            if chunk.estimated_bytes >= self._limits.commit_max_bytes:
                yield chunk
                chunk = Chunk(self._next_offset)
        if chunk.next_offset > self._next_offset:
            yield chunk

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

    def _take(self, update: UpdateRecord, chunk: Chunk, applied: Applied) -> None:
        """Judge one record's entries and put those that count into the chunk."""
        header = update.header
        mark = self._marks.mark(update.source, header.source_partition)
        known = mark.next_offset
        mark.next_offset = max(known, header.end)
        mark.until_ms = max(mark.until_ms, header.until_ms)
        n = update.offset.size
        if not n:
            return
        new = int(update.offset.searchsorted(known)) if header.first < known else 0
        applied.repeated += new
        if new == n:
            return
        judge = self._judge_events if update.source == "e" else self._judge_transitions
        kept, firsts = judge(update, new, chunk, applied)
        if header.trace:
            applied.traces.append(header.trace)
        applied.appended_ms.append(update.appended_ms[firsts])
        if kept.size:
            self._collect(update.rows if kept.size == n else update.rows.take(kept), chunk)
            applied.rows += kept.size

    def _judge_events(
        self, update: UpdateRecord, new: int, chunk: Chunk, applied: Applied
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows that count, and the first row of each event among them."""
        s, rows = update.header.source_partition, update.rows
        seen = self._seen.get(s)
        if seen is None:
            seen = self._seen[s] = SeenIdentities(self._spec.dedup_horizon_ms, -1, {})
        judged = seen.judge_rows(update.offset, rows.id, rows.time_ms, new)
        self._marks.mark("e", s).clock_ms = seen.clock_ms
        applied.late += judged.late
        applied.duplicates += judged.duplicates
        firsts = judged.firsts
        floor_ms = horizon_floor(seen.clock_ms, self._spec.dedup_horizon_ms) * DEDUP_BUCKET_MS
        if (
            firsts.size and rows.time_ms[firsts[0]] < floor_ms
        ):  # read in long strides; a commit would drop these
            firsts = firsts[rows.time_ms[firsts] >= floor_ms]
        for bucket, data in by_bucket(rows.id[firsts], rows.time_ms[firsts]):
            chunk.dedup_add.setdefault(DedupBucket(s, bucket), []).append(data)
            chunk.estimated_bytes += len(data)
        return judged.rows, judged.firsts

    def _judge_transitions(
        self, update: UpdateRecord, new: int, chunk: Chunk, applied: Applied
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows that count, and the first row of each transition among them."""
        mark = self._marks.mark("l", update.header.source_partition)
        offset = update.offset
        starts = new + np.flatnonzero(np.diff(offset[new:], prepend=-1))
        seq = update.seq[starts]
        before = np.maximum.accumulate(np.concatenate([[mark.seq], seq]))
        fresh = np.greater(seq, before[:-1])
        mark.seq = int(before[-1])
        applied.duplicates += int(np.count_nonzero(~fresh))
        rows = np.repeat(fresh, np.diff(starts, append=offset.size))
        return new + np.flatnonzero(rows), starts[fresh]

    def _collect(self, rows: EntityUpdates, chunk: Chunk) -> None:
        known, blobs, hot, estimate = chunk.keys, chunk.blobs, self._hot, 0
        before = len(blobs)
        for key in rows.keys:
            slot = known.get(key)
            if slot is None:
                slot = known[key] = len(known)
                blob = hot.get(key)
                blobs.append(blob)
                estimate += len(key) + (len(blob) if blob else NEW_STATE_BYTES)
            chunk.slot.append(slot)
        hot.count(blobs[before:])
        chunk.pieces.append(rows)
        chunk.estimated_bytes += estimate + ROW_GROWTH_BYTES * len(rows)

    def commit_of(self, chunk: Chunk, states: Mapping[bytes, bytes]) -> Commit:
        """Return what to write for a chunk whose states were made."""
        floors = {
            s: horizon_floor(seen.clock_ms, self._spec.dedup_horizon_ms)
            for s, seen in self._seen.items()
        }
        moved, self._floors = floors != self._floors, floors  # only then any bucket fell behind
        return Commit(
            partition=self._partition,
            expected_offset=self._next_offset,
            next_offset=chunk.next_offset,
            watermarks=self._marks,
            fresh_until_ms=self._marks.fresh_until_ms(self._source_partitions),
            states=states,
            dedup_add={
                bucket: b"".join(parts)
                for bucket, parts in chunk.dedup_add.items()
                if bucket.bucket >= floors[bucket.source_partition]
            },
            dedup_drop=self._fallen(floors) if moved else (),
        )

    def _fallen(self, floors: Mapping[int, int]) -> list[DedupBucket]:
        return [b for b in self._buckets if b.bucket < floors[b.source_partition]]

    def settle(self, commit: Commit) -> None:
        """Remember what was committed."""
        self._next_offset = commit.next_offset
        self._committed = commit.watermarks.next_offsets()
        self._buckets.update(commit.dedup_add)
        self._buckets.difference_update(commit.dedup_drop)
        self._hot.keep(commit.states)
