"""log records → every row that the workers counted, by entity, and where each stands in the log.

Rows are made and judged by the code of `pipeline.route` and `pipeline.aggregate`'s parts; here is
only the memory of the whole log at once.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.event import Event, EventRejected, identity_of, parse_event, partition_of
from features.spec import Spec
from features.store import SOURCES, Source
from features.update import (
    EntityUpdates,
    LabelTransition,
    concat_updates,
    updates_of_events,
    updates_of_transitions,
)
from pipeline.dedup import SeenIdentities
from pipeline.skew_log import Placed

SOURCE_OF: Final[dict[str, Source]] = {"events": "e", "label_updates": "l"}
_transitions: Final = msgspec.json.Decoder(LabelTransition)


class Stream(NamedTuple):
    """One partition of one source, as far as the log has it.

    Attributes:
        offsets: int64, ascending, of all its records.
        timestamps_ms: int64: when the log took them.
        first_ms: Event time (or label time) of its first record that was taken; 0 without.
    """

    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    first_ms: int


class Known(NamedTuple):
    """An event of the log: where it first stands, and its rows in `LogIndex.rows`."""

    partition: int
    offset: int
    rows: range


@dataclass(frozen=True, slots=True, eq=False)
class LogIndex:
    """A log, ready to be asked what an entity's state was at any watermark.

    Attributes:
        streams: By (source, partition).
        rows: All rows, judged or not.
        counted: bool: which of them the workers applied.
        offset: int64: the offset of the record that each row comes from.
        of_key: Key → stream → indices of the rows that count, in order of offset.
        events: Identity → the event.
    """

    streams: dict[tuple[Source, int], Stream]
    rows: EntityUpdates
    counted: NDArray[np.bool_]
    offset: NDArray[np.int64]
    of_key: dict[bytes, dict[tuple[Source, int], NDArray[np.int64]]]
    events: dict[str, Known]

    def marks_at(self, instant_ms: int) -> dict[Source, list[int]]:
        """Return next offsets by source and partition: what the log had taken by then."""
        marks: dict[Source, list[int]] = {source: [] for source in SOURCES}
        for source in SOURCES:
            count = 1 + max((p for s, p in self.streams if s == source), default=-1)
            for partition in range(count):
                stream = self.streams.get((source, partition))
                n = 0
                if stream is not None:
                    n = int(np.searchsorted(stream.timestamps_ms, instant_ms, side="right"))
                marks[source].append(int(stream.offsets[n - 1]) + 1 if stream and n else 0)
        return marks


def index_log(spec: Spec, updates_partitions: int, records: Iterable[Placed]) -> LogIndex:
    """Index a log; what no event or transition is, is left out, as the router does."""
    by_stream: dict[tuple[Source, int], list[Placed]] = defaultdict(list)
    for record in records:
        by_stream[SOURCE_OF[record.topic], record.partition].append(record)
    parts, offsets, counts, names = [updates_of_events(spec, [])], [], [], []
    streams: dict[tuple[Source, int], Stream] = {}
    events: dict[str, Known] = {}
    first = 0
    for (source, partition), placed in sorted(by_stream.items()):
        placed.sort(key=lambda record: record.offset)
        taken = _events(spec, placed) if source == "e" else _turns(spec, placed)
        counts.append(_judge(spec, updates_partitions, source, taken))
        if source == "e":
            ends = np.searchsorted(
                taken.rows.row_event, np.arange(len(taken.names)), side="right"
            ).tolist()
            begin = 0
            for name, offset, end in zip(taken.names, taken.offset.tolist(), ends, strict=True):
                events.setdefault(name, Known(partition, offset, range(first + begin, first + end)))
                begin = end
        parts.append(taken.rows)
        offsets.append(taken.offset[taken.rows.row_event])
        names += [(source, partition)] * len(taken.rows)
        first += len(taken.rows)
        streams[source, partition] = Stream(
            np.array([record.offset for record in placed], np.int64),
            np.maximum.accumulate(np.array([record.timestamp_ms for record in placed], np.int64)),
            int(taken.rows.time_ms[0]) if len(taken.rows) else 0,
        )
    rows = concat_updates(parts)
    of_key: dict[bytes, dict[tuple[Source, int], list[int]]] = {}
    counted = np.concatenate([*counts, np.zeros(0, np.bool_)])
    for row in np.flatnonzero(counted).tolist():
        of_key.setdefault(rows.keys[row], {}).setdefault(names[row], []).append(row)
    return LogIndex(
        streams,
        rows,
        counted,
        np.concatenate([*offsets, np.zeros(0, np.int64)]),
        {
            key: {stream: np.array(found, np.int64) for stream, found in known.items()}
            for key, known in of_key.items()
        },
        events,
    )


class _Taken(NamedTuple):
    """Records that were taken: their offsets, names (or numbers), and rows."""

    offset: NDArray[np.int64]
    names: list[str]
    seq: NDArray[np.int64]
    rows: EntityUpdates


def _events(spec: Spec, placed: Sequence[Placed]) -> _Taken:
    offsets, events = list[int](), list[Event]()
    for record in placed:
        try:
            events.append(parse_event(record.value, spec.event_rules, record.timestamp_ms))
        except EventRejected:
            continue
        offsets.append(record.offset)
    names = [identity_of(event) for event in events]
    seq = np.zeros(len(events), np.int64)
    return _Taken(np.array(offsets, np.int64), names, seq, updates_of_events(spec, events))


def _turns(spec: Spec, placed: Sequence[Placed]) -> _Taken:
    offsets, turns = list[int](), list[LabelTransition]()
    for record in placed:
        try:
            turns.append(_transitions.decode(record.value))
        except msgspec.MsgspecError:
            continue
        offsets.append(record.offset)
    seq = np.array([turn.seq for turn in turns], np.int64)
    return _Taken(np.array(offsets, np.int64), [], seq, updates_of_transitions(spec, turns))


def _judge(spec: Spec, partitions: int, source: Source, taken: _Taken) -> NDArray[np.bool_]:
    """Return which rows counted: by lateness and identity, or by the number of the transition."""
    rows = taken.rows
    owner = np.array([partition_of(key, partitions) for key in rows.keys], np.int64)
    counted = np.zeros(len(rows), np.bool_)
    for p in np.unique(owner).tolist():
        mine = np.flatnonzero(owner == p)
        event = rows.row_event[mine].astype(np.int64)
        if source == "e":
            seen = SeenIdentities(spec.dedup_horizon_ms, -1, {})
            counted[mine[seen.judge_rows(event, rows.id[mine], rows.time_ms[mine]).rows]] = True
        else:
            starts = np.flatnonzero(np.diff(event, prepend=-1))
            seq = taken.seq[event[starts]]
            before = np.maximum.accumulate(np.concatenate([[0], seq]))[:-1]
            counted[mine] = np.repeat(seq > before, np.diff(starts, append=len(mine)))
    return counted
