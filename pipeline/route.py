"""bytes of one source partition → records for the partitions that own the entities.

A pure step: no Kafka in sight. The same log gives the same rows however it is cut into batches,
and each record says which range of the log it stands for, so that repeats are harmless.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.event import partition_of
from features.spec import Spec
from features.store import Source
from features.update import (
    EntityUpdates,
    updates_of_events,
    updates_of_transitions,
)
from pipeline.featurize import FeaturizeLimits, LogRecord
from pipeline.source_records import Reject, read_events, read_transitions
from pipeline.updates import FORMAT_VERSION, Header, UpdateRecord, encode_record

ROW_BYTES = 73  # of a record, beside key and fields
OWNERS_KEPT = 1 << 16  # keys whose partition is remembered, about 200 bytes each

_offset_of, _timestamp_of = attrgetter("offset"), attrgetter("timestamp")


class RoutedRecord(NamedTuple):
    """One record of the updates topic: its partition, its bytes, and what they say."""

    partition: int
    data: bytes
    update: UpdateRecord


@dataclass(frozen=True, slots=True)
class Routed:
    """What a batch became.

    Attributes:
        records: In the order in which they must be sent.
        accepted: Count of events or transitions taken.
    """

    records: list[RoutedRecord]
    rejects: list[Reject]
    accepted: int


class Router:
    """Routes one source partition; remembers up to where each updates partition was told."""

    def __init__(
        self,
        spec: Spec,
        *,
        source: Source,
        source_partition: int,
        partitions: int,
        epoch: int,
        position: int,
        limits: FeaturizeLimits,
        now_ms: Callable[[], int],
    ) -> None:
        """Start at a source offset that every updates partition has seen up to.

        Args:
            spec: Makes the rows.
            source: What the source's records are.
            source_partition: Which partition of it.
            partitions: Count of updates partitions.
            epoch: Of the store for which records are made.
            position: First source offset to route.
            limits: Bounds of a record, and the heartbeats.
            now_ms: UTC clock.
        """
        self._spec = spec
        self._source: Source = source
        self._source_partition = source_partition
        self._partitions = partitions
        self._epoch = epoch
        self._limits = limits
        self._now_ms = now_ms
        self._ends = [position] * partitions
        self._told_ms = [0] * partitions
        self._owners: dict[bytes, int] = {}
        self._read = position
        self._trace = ""

    @property
    def read_offset(self) -> int:
        """First source offset not yet routed."""
        return self._read

    @property
    def position(self) -> int:
        """First source offset that some updates partition has not been told of.

        Store it only when everything that was sent is acknowledged.
        """
        return min(self._ends)

    def route(self, batch: Sequence[LogRecord], until_ms: int, trace: str = "") -> Routed:
        """Parse a batch, make rows, and pack them by the partition that owns their entity.

        Args:
            batch: Records of the source partition, ascending; what was routed already is skipped.
            until_ms: Everything that the source had taken by then is in the batch.
            trace: Context that the records name, where an event of the batch is traced.
        """
        new = batch
        if batch and batch[0].offset < self._read:
            new = [record for record in batch if record.offset >= self._read]
        if not new:
            return Routed([], [], 0)
        parsed = self._parse(new)
        self._read = new[-1].offset + 1
        self._trace = trace
        records = list(self._pack(parsed, until_ms)) if len(parsed.rows) else []
        self._trace = ""
        return Routed(records, parsed.rejects, len(parsed.taken))

    def beat(self, until_ms: int, *, drained: bool) -> list[RoutedRecord]:
        """Return range-only records for partitions that no rows have told for a while.

        Args:
            until_ms: Everything that the source had taken by then is routed.
            drained: Whether the source holds nothing more at present.
        """
        now_ms = self._now_ms()
        records: list[RoutedRecord] = []
        for p in range(self._partitions):
            silent_s = (now_ms - self._told_ms[p]) / 1000
            behind = self._ends[p] < self._read
            if (behind and silent_s >= self._limits.range_heartbeat_s) or (
                drained and silent_s >= self._limits.idle_heartbeat_s
            ):
                empty = updates_of_events(self._spec, [])
                nothing = np.empty(0, np.int64)
                columns = _Origins(nothing, nothing, nothing)
                records.append(self._record(p, empty, columns, self._read, until_ms))
        return records

    def _parse(self, batch: Sequence[LogRecord]) -> "_Parsed":
        if self._source == "l":
            labels = read_transitions(batch)
            rows = updates_of_transitions(self._spec, labels.items)
            seq = np.fromiter((t.seq for t in labels.items), np.int64, len(labels.items))
            return _Parsed(labels.records, labels.rejects, rows, seq)
        events = read_events(batch, self._spec.event_rules)
        rows = updates_of_events(self._spec, events.items)
        return _Parsed(events.records, events.rejects, rows, np.zeros(len(events.items), np.int64))

    def _pack(self, parsed: "_Parsed", until_ms: int) -> Iterator[RoutedRecord]:
        """Sort the rows by owner, and cut each owner's into records."""
        taken, rows, count = parsed.taken, parsed.rows, len(parsed.taken)
        owners = self._owners_of(rows.keys)
        order = np.argsort(owners, kind="stable")
        rows = rows.take(order)
        event = rows.row_event
        columns = (
            np.fromiter(map(_offset_of, taken), np.int64, count)[event],
            np.fromiter(map(_timestamp_of, taken), np.int64, count)[event],
            parsed.seq[event],
        )
        sizes = np.fromiter(map(len, rows.keys), np.int64, len(rows))
        sizes += ROW_BYTES + 4 * rows.fields.shape[1]
        edges = np.searchsorted(owners[order], np.arange(self._partitions + 1)).tolist()
        for p in range(self._partitions):
            for begin, end in _cut(columns[0], sizes, edges[p], edges[p + 1], self._limits):
                last = end == edges[p + 1]
                until = self._read if last else int(columns[0][end - 1]) + 1
                origins = _Origins(*(column[begin:end] for column in columns))
                yield self._record(p, rows.cut(begin, end), origins, until, until_ms)

    def _owners_of(self, keys: Sequence[bytes]) -> NDArray[np.int64]:
        """Return the partition that owns each key; those of late are remembered."""
        known = self._owners
        if len(known) > OWNERS_KEPT:
            known.clear()
        owners = list(map(known.get, keys))
        if None in owners:
            for row, owner in enumerate(owners):
                if owner is None:
                    key = keys[row]
                    owners[row] = known[key] = partition_of(key, self._partitions)
        return np.array(owners, np.int64)

    def _record(
        self, p: int, rows: EntityUpdates, origins: "_Origins", end: int, until_ms: int
    ) -> RoutedRecord:
        header = Header(
            version=FORMAT_VERSION,
            source=self._source,
            source_partition=self._source_partition,
            first=self._ends[p],
            end=end,
            until_ms=until_ms if end == self._read else 0,
            digest=self._spec.digest,
            epoch=self._epoch,
            rows=len(rows),
            fields=rows.fields.shape[1],
            trace=self._trace,
        )
        self._ends[p] = end
        self._told_ms[p] = self._now_ms()
        update = UpdateRecord(header, rows, origins.offset, origins.appended_ms, origins.seq)
        return RoutedRecord(p, encode_record(update), update)


@dataclass(frozen=True, slots=True, eq=False)
class _Parsed:
    """What was taken, its rows and its transitions' numbers; and what was rejected."""

    taken: Sequence[LogRecord]
    rejects: list[Reject]
    rows: EntityUpdates
    seq: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Origins:
    """Where rows came from, in columns."""

    offset: NDArray[np.int64]
    appended_ms: NDArray[np.int64]
    seq: NDArray[np.int64]


def _cut(
    offset: NDArray[np.int64],
    sizes: NDArray[np.int64],
    begin: int,
    end: int,
    limits: FeaturizeLimits,
) -> Iterator[tuple[int, int]]:
    """Cut rows `begin` to `end` into records within the limits, never within an event.

    An event has at most 16 rows of 0.6 KB, so whole events always fit.
    """
    while begin < end:
        rows_max = begin + limits.update_record_max_rows
        if end <= rows_max and int(sizes[begin:end].sum()) <= limits.update_record_max_bytes:
            yield begin, end
            return
        weight = np.cumsum(sizes[begin:end])
        starts = begin + 1 + np.flatnonzero(offset[begin + 1 : end] != offset[begin : end - 1])
        edges = np.append(starts, end)
        fits = (edges <= rows_max) & (weight[edges - begin - 1] <= limits.update_record_max_bytes)
        cut = int(edges[max(int(np.count_nonzero(fits)) - 1, 0)])
        yield begin, cut
        begin = cut
