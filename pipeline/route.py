"""bytes of one source partition → records for the partitions that own the entities.

A pure step: no Kafka in sight. The same log gives the same rows however it is cut into batches,
and each record says which range of the log it stands for, so that repeats are harmless.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.event import Event, EventRejected, parse_event, partition_of
from features.spec import Spec
from features.store import Source
from features.update import (
    EntityUpdates,
    LabelTransition,
    updates_of_events,
    updates_of_transitions,
)
from pipeline.featurize import FeaturizeLimits, LogRecord
from pipeline.updates import FORMAT_VERSION, Header, UpdateRecord, encode_record

ROW_BYTES = 73  # of a record, beside key and fields

_transitions = msgspec.json.Decoder(LabelTransition)


@dataclass(frozen=True, slots=True)
class Reject:
    """A source record that is no event: goes to the dead-letter topic.

    Attributes:
        code: Closed set of reasons (`EventRejected.code`).
        pointer: JSON pointer of the field at fault.
    """

    offset: int
    code: str
    pointer: str
    detail: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Routed:
    """What a batch became.

    Attributes:
        records: (updates partition, bytes) in the order in which they must be sent.
        accepted: Count of events or transitions taken.
    """

    records: list[tuple[int, bytes]]
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
        self._read = position

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

    def route(self, batch: Sequence[LogRecord], until_ms: int) -> Routed:
        """Parse a batch, make rows, and pack them by the partition that owns their entity.

        Args:
            batch: Records of the source partition, ascending; what was routed already is skipped.
            until_ms: Everything that the source had taken by then is in the batch.
        """
        new = [record for record in batch if record.offset >= self._read]
        if not new:
            return Routed([], [], 0)
        parsed = self._parse(new)
        self._read = new[-1].offset + 1
        records = list(self._pack(parsed, until_ms)) if len(parsed.rows) else []
        return Routed(records, parsed.rejects, len(parsed.taken))

    def beat(self, until_ms: int, *, drained: bool) -> list[tuple[int, bytes]]:
        """Return range-only records for partitions that no rows have told for a while.

        Args:
            until_ms: Everything that the source had taken by then is routed.
            drained: Whether the source holds nothing more at present.
        """
        now_ms = self._now_ms()
        records: list[tuple[int, bytes]] = []
        for p in range(self._partitions):
            silent_s = (now_ms - self._told_ms[p]) / 1000
            behind = self._ends[p] < self._read
            if (behind and silent_s >= self._limits.range_heartbeat_s) or (
                drained and silent_s >= self._limits.idle_heartbeat_s
            ):
                empty = updates_of_events(self._spec, [])
                nothing = np.empty(0, np.int64)
                columns = _Origins(nothing, nothing, nothing)
                records.append((p, self._record(p, empty, columns, self._read, until_ms)))
        return records

    def _parse(self, batch: Sequence[LogRecord]) -> "_Parsed":
        taken: list[LogRecord] = []
        rejects: list[Reject] = []
        events: list[Event] = []
        transitions: list[LabelTransition] = []
        rules = self._spec.event_rules
        for record in batch:
            body = record.value or b""
            try:
                if self._source == "e":
                    events.append(parse_event(body, rules, record.timestamp))
                else:
                    transitions.append(_parse_transition(body))
            except EventRejected as error:
                rejects.append(Reject(record.offset, error.code, error.pointer, error.detail, body))
            else:
                taken.append(record)
        if self._source == "e":
            seq = np.zeros(len(taken), np.int64)
            return _Parsed(taken, rejects, updates_of_events(self._spec, events), seq)
        seq = np.fromiter((t.seq for t in transitions), np.int64, len(transitions))
        return _Parsed(taken, rejects, updates_of_transitions(self._spec, transitions), seq)

    def _pack(self, parsed: "_Parsed", until_ms: int) -> Iterator[tuple[int, bytes]]:
        taken, rows, count = parsed.taken, parsed.rows, len(parsed.taken)
        offset = np.fromiter((r.offset for r in taken), np.int64, count)[rows.row_event]
        appended = np.fromiter((r.timestamp for r in taken), np.int64, count)[rows.row_event]
        origins = _Origins(offset, appended, parsed.seq[rows.row_event])
        owner = np.fromiter(
            (partition_of(key, self._partitions) for key in rows.keys), np.int64, len(rows)
        )
        sizes = np.fromiter(map(len, rows.keys), np.int64, len(rows))
        sizes += ROW_BYTES + 4 * rows.fields.shape[1]
        for p in np.unique(owner).tolist():
            mine = np.flatnonzero(owner == p)
            for part, last in _cut(mine, offset, sizes, self._limits):
                end = self._read if last else int(offset[part[-1]]) + 1
                data = self._record(p, rows.take(part), origins.take(part), end, until_ms)
                yield p, data

    def _record(
        self, p: int, rows: EntityUpdates, origins: "_Origins", end: int, until_ms: int
    ) -> bytes:
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
        )
        self._ends[p] = end
        self._told_ms[p] = self._now_ms()
        return encode_record(
            UpdateRecord(header, rows, origins.offset, origins.appended_ms, origins.seq)
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Parsed:
    """What was taken, its rows and its transitions' numbers; and what was rejected."""

    taken: list[LogRecord]
    rejects: list[Reject]
    rows: EntityUpdates
    seq: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Origins:
    """Where rows came from, in columns."""

    offset: NDArray[np.int64]
    appended_ms: NDArray[np.int64]
    seq: NDArray[np.int64]

    def take(self, index: NDArray[np.intp]) -> "_Origins":
        return _Origins(self.offset[index], self.appended_ms[index], self.seq[index])


def _parse_transition(body: bytes) -> LabelTransition:
    try:
        return _transitions.decode(body)
    except msgspec.MsgspecError as error:
        raise EventRejected("malformed", "", str(error)) from error


def _cut(
    mine: NDArray[np.intp],
    offset: NDArray[np.int64],
    sizes: NDArray[np.int64],
    limits: FeaturizeLimits,
) -> Iterator[tuple[NDArray[np.intp], bool]]:
    """Cut one partition's rows into records, never within an event; tell which is the last.

    An event has at most 16 rows of 0.6 KB, so whole events always fit.
    """
    starts = np.flatnonzero(np.diff(offset[mine], prepend=-1))
    bounds = np.append(starts, mine.size)
    weight = np.concatenate([[0], np.cumsum(sizes[mine])])
    begin = 0
    while begin < mine.size:
        fits_bytes = np.searchsorted(
            weight[bounds], weight[begin] + limits.update_record_max_bytes, side="right"
        )
        fits_rows = np.searchsorted(bounds, begin + limits.update_record_max_rows, side="right")
        end = int(bounds[max(min(fits_bytes, fits_rows) - 1, 0)])
        if end <= begin:  # a single event larger than the limit still travels whole
            end = int(bounds[np.searchsorted(bounds, begin, side="right")])
        yield mine[begin:end], end == mine.size
        begin = end
