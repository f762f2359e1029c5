"""own accepted events → rows to apply on top of what was read: a burst sees itself.

An event that this process decided may not be in the store yet. Its rows are kept here for
`overlay_s`, and leave earlier for a reader whose watermark shows that the log's copy was applied.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from features.event import Event, identity_of
from features.store import Reads, SourceMark
from features.update import EntityUpdates

ROWS_AT_FIRST = 4_096
_COLUMNS = ("entity", "series", "time_ms", "id", "count", "value", "fields", "filters")


class Place(NamedTuple):
    """Partition and offset of an event on the events topic."""

    partition: int
    offset: int


_NOWHERE = Place(-1, -1)


class _Accepted:
    """One event, its rows (key and slot), and where the log has it (-1, -1: not known yet)."""

    __slots__ = ("accepted_ms", "alive", "name", "offset", "partition", "rows")

    def __init__(
        self, name: str, accepted_ms: int, place: Place | None, rows: list[tuple[bytes, int]]
    ) -> None:
        self.name = name
        self.accepted_ms = accepted_ms
        self.partition, self.offset = place or _NOWHERE
        self.rows = rows
        self.alive = True

    def lacks(self, ahead: Sequence[int]) -> bool:
        """Whether a partition that has applied up to these offsets has not applied the log's copy.

        Args:
            ahead: Next offset by partition of the events topic.
        """
        partition = self.partition
        return not 0 <= partition < len(ahead) or self.offset >= ahead[partition]


class Lacking(NamedTuple):
    """What a batch's questions lack in the states that were read for them.

    Attributes:
        updates: The rows, `row_event` being the index of the question; None when there are none.
        names: Identities that the rows come from, one list per question.
    """

    updates: EntityUpdates | None
    names: list[list[str]]


class Overlay:
    """The rows of the last `overlay_s`, by entity. Bounded in events and in rows per entity."""

    def __init__(
        self, overlay_s: float, events_max: int, rows_per_entity_max: int, max_fields: int
    ) -> None:
        """Bound everything.

        Args:
            overlay_s: Wall time for which an event is kept.
            events_max: Events kept; the oldest leave first.
            rows_per_entity_max: Newest rows that are kept of one entity.
            max_fields: Columns of `EntityUpdates.fields`.
        """
        self._keep_ms = int(overlay_s * 1000)
        self._events_max = events_max
        self._rows_per_entity_max = rows_per_entity_max
        self._accepted: deque[_Accepted] = deque()
        self._by_name: dict[str, _Accepted] = {}
        self._by_key: dict[bytes, deque[_Accepted]] = {}
        self._rows = _Rows(max_fields)

    @property
    def size(self) -> int:
        """Events kept now."""
        return len(self._accepted)

    def accept_many(
        self,
        events: Sequence[Event],
        places: Sequence[Place | None],
        updates: EntityUpdates,
        reads: Reads | None,
        partition_of: Mapping[bytes, int],
        now_ms: int,
        keep: bool = True,
    ) -> Lacking:
        """Accept a batch in order; say which earlier rows each question's entities lack.

        Args:
            events: The batch; each sees those before it.
            places: Where the log has each, None if it does not yet.
            updates: The batch's rows, ascending in `row_event`.
            reads: What was read; rows that its watermarks cover are left out.
            partition_of: Entity key → updates partition, of the keys that were read.
            now_ms: Wall clock.
            keep: Whether the batch is accepted at all; if not, only the question is answered.
        """
        self._expire(now_ms)
        slots = self._rows.put(updates) if keep else [0] * len(updates)
        ends = np.searchsorted(updates.row_event, np.arange(len(events)), side="right").tolist()
        ahead_of = _ahead(reads)
        begin, found, question = 0, list[tuple[bytes, int]](), list[int]()
        names: list[list[str]] = []
        for index, (event, place, end) in enumerate(zip(events, places, ends, strict=True)):
            keys = updates.keys[begin:end]
            lacking = self._lacking(keys, ahead_of, partition_of)
            if lacking:  # all rows of each, so that its name says what was applied
                ahead = {key: ahead_of.get(partition_of.get(key, -1), ()) for key in keys}
                before = len(found)
                for one in lacking:
                    found.extend(
                        row for row in one.rows if row[0] in ahead and one.lacks(ahead[row[0]])
                    )
                question.extend([index] * (len(found) - before))
            names.append([one.name for one in lacking])
            if keep:
                rows = list(zip(keys, slots[begin:end], strict=True))
                self._accept(identity_of(event), place, rows, now_ms)
            begin = end
        if not found:
            return Lacking(None, names)
        keys = [key for key, _ in found]
        return Lacking(self._rows.take(keys, [slot for _, slot in found], question), names)

    def place(self, name: str, place: Place) -> None:
        """Learn where the log put an event that was accepted before."""
        accepted = self._by_name.get(name)
        if accepted is not None:
            accepted.partition, accepted.offset = place

    def forget(self, name: str) -> None:
        """Take back an event that was not recorded after all."""
        accepted = self._by_name.pop(name, None)
        if accepted is not None:
            accepted.alive = False

    def _lacking(
        self,
        keys: Sequence[bytes],
        ahead_of: Mapping[int, Sequence[int]],
        partition_of: Mapping[bytes, int],
    ) -> dict[_Accepted, None]:
        """Return the events that some key's state lacks, oldest first by key; written to be quick.

        A key that everybody uses has many, all but the newest of which its state has.
        """
        lacking: dict[_Accepted, None] = {}
        for key in keys:
            known = self._by_key.get(key)
            if known is None:
                continue
            ahead = ahead_of.get(partition_of.get(key, -1), ())
            count = len(ahead)
            for one in known:
                partition = one.partition
                if one.alive and not (0 <= partition < count and one.offset < ahead[partition]):
                    lacking[one] = None
        return lacking

    def _accept(
        self, name: str, place: Place | None, rows: list[tuple[bytes, int]], now_ms: int
    ) -> None:
        if name in self._by_name:  # a repeat: its rows are here already
            self._rows.free([slot for _, slot in rows])
            return
        accepted = _Accepted(name, now_ms, place, rows)
        for key, _ in rows:
            known = self._by_key.get(key)
            if known is None:
                known = self._by_key[key] = deque(maxlen=self._rows_per_entity_max)
            known.append(accepted)
        self._accepted.append(accepted)
        self._by_name[name] = accepted
        if len(self._accepted) > self._events_max:
            self._drop_oldest()

    def _expire(self, now_ms: int) -> None:
        while self._accepted and self._accepted[0].accepted_ms + self._keep_ms < now_ms:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        oldest = self._accepted.popleft()
        if self._by_name.get(oldest.name) is oldest:
            del self._by_name[oldest.name]
        for key, _ in oldest.rows:
            rows = self._by_key.get(key)
            if rows and rows[0] is oldest:  # else newer rows have pushed it out
                rows.popleft()
            if not rows:
                self._by_key.pop(key, None)
        self._rows.free([slot for _, slot in oldest.rows])


class _Rows:
    """Update rows in preallocated columns, addressed by slot; grows by doubling, never shrinks."""

    def __init__(self, max_fields: int) -> None:
        self._free: list[int] = []
        self._columns = _empty(0, max_fields)

    def put(self, updates: EntityUpdates) -> list[int]:
        """Copy rows in; return their slots."""
        count = len(updates)
        if len(self._free) < count:
            self._grow(count)
        keep = len(self._free) - count
        slots = self._free[keep:]
        del self._free[keep:]
        for name in _COLUMNS:
            getattr(self._columns, name)[slots] = getattr(updates, name)
        return slots

    def take(self, keys: list[bytes], slots: list[int], question: list[int]) -> EntityUpdates:
        """Return rows, in this order."""
        index = np.asarray(slots, np.intp)
        return EntityUpdates(
            keys=keys,
            row_event=np.asarray(question, np.int32),
            **{name: getattr(self._columns, name)[index] for name in _COLUMNS},
        )

    def free(self, slots: list[int]) -> None:
        """Let slots be written again."""
        self._free.extend(slots)

    def _grow(self, count: int) -> None:
        old = self._columns
        size = len(old.time_ms)
        more = max(ROWS_AT_FIRST, size, count)
        self._columns = _empty(size + more, old.fields.shape[1])
        for name in _COLUMNS:
            getattr(self._columns, name)[:size] = getattr(old, name)
        self._free.extend(range(size, size + more))


def _ahead(reads: Reads | None) -> dict[int, list[int]]:
    """Return by partition read how far the events topic is in it: next offsets by its own."""
    if reads is None:
        return {}
    return {
        partition: [mark.next_offset for mark in marks.e]
        for partition, marks in reads.watermarks.items()
    }


def marks_of(reads: Reads, partition: int) -> Sequence[SourceMark]:
    """Return how far the events topic is in a partition; nothing if nobody ever wrote there."""
    watermarks = reads.watermarks.get(partition)
    return watermarks.e if watermarks is not None else ()


def is_in(place: Place | None, marks: Sequence[SourceMark]) -> bool:
    """Whether marks of the events topic cover a place in it; an unknown place is not covered."""
    if place is None or place.partition >= len(marks):
        return False
    return place.offset < marks[place.partition].next_offset


def _empty(rows: int, max_fields: int) -> EntityUpdates:
    return EntityUpdates(
        keys=[],
        entity=np.zeros(rows, np.uint8),
        series=np.zeros(rows, np.uint8),
        time_ms=np.zeros(rows, np.int64),
        id=np.zeros(rows, np.uint64),
        count=np.zeros(rows, np.int64),
        value=np.zeros(rows, np.int64),
        fields=np.zeros((rows, max_fields), np.uint32),
        filters=np.zeros(rows, np.uint8),
        row_event=np.zeros(0, np.int32),
    )
