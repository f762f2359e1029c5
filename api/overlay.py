"""own accepted events → rows to apply on top of what was read: a burst sees itself.

An event that this process decided may not be in the store yet. Its rows are kept here for
`overlay_s`, and leave earlier for a reader whose watermark shows that the log's copy was applied.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from api.overlay_entity import Accepted, EntityRows, Place
from api.overlay_rows import Rows
from features.event import Event, identity_of
from features.store import Reads, SourceMark
from features.update import EntityUpdates

_number_of = attrgetter("number")


class Lacking(NamedTuple):
    """What a batch's questions lack in the states that were read for them.

    Attributes:
        updates: The rows, `row_event` being the index of the question; None when there are none.
        names: Identities that the rows come from, one list per question.
        unplaced: Of those, the ones that the log may have already, for all that is known here.
    """

    updates: EntityUpdates | None
    names: list[list[str]]
    unplaced: list[list[str]]


class _Found(NamedTuple):
    """Rows: the entity's key and the slot of each."""

    keys: list[bytes]
    slots: list[int]


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
        self._accepted: deque[Accepted] = deque()
        self._numbers = count()
        self._by_name: dict[str, Accepted] = {}
        self._by_key: dict[bytes, EntityRows] = {}
        self._rows = Rows(max_fields)

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
        rows, question = _Found([], []), list[int]()
        begin, names, unplaced = 0, list[list[str]](), list[list[str]]()
        for index, (event, place, end) in enumerate(zip(events, places, ends, strict=True)):
            keys = updates.keys[begin:end]
            lacking = self._lacking(keys, ahead_of, partition_of, rows)
            question.extend([index] * (len(rows.slots) - len(question)))
            names.append([one.name for one in lacking])
            unplaced.append([one.name for one in lacking if one.partition < 0])
            if keep:
                its_rows = list(zip(keys, slots[begin:end], strict=True))
                self._accept(identity_of(event), place, its_rows, now_ms)
            begin = end
        if not question:
            return Lacking(None, names, unplaced)
        return Lacking(self._rows.take(rows.keys, rows.slots, question), names, unplaced)

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
        rows: "_Found",
    ) -> list[Accepted]:
        """Return the events that some state of these keys lacks, and add all their rows.

        All that the states lack of them, so that an event's name says what was applied: also rows
        that newer ones pushed out. No key comes twice. Events, and the rows of each key, are in the
        order in which they were accepted: who makes the vector again has no other.
        """
        lacking: dict[Accepted, None] = {}
        begin, pushed = len(rows.slots), False
        marks: dict[bytes, Sequence[int]] = {}
        for key in keys:
            ahead = marks[key] = ahead_of.get(partition_of.get(key, -1), ())
            known = self._by_key.get(key)
            if known is not None:
                known.lacking(ahead, lacking, rows.slots)
                rows.keys.extend([key] * (len(rows.slots) - len(rows.keys)))
        for one in lacking:
            for key, slot in one.pushed:
                if key in marks and one.lacks(marks[key]):
                    rows.keys.append(key)
                    rows.slots.append(slot)
                    pushed = True
        if pushed:
            _put_in_order(rows, begin, lacking)
        return sorted(lacking, key=_number_of) if len(lacking) > 1 else list(lacking)

    def _accept(
        self, name: str, place: Place | None, rows: list[tuple[bytes, int]], now_ms: int
    ) -> None:
        if name in self._by_name:  # a repeat: its rows are here already
            self._rows.free([slot for _, slot in rows])
            return
        accepted = Accepted(next(self._numbers), name, now_ms, place, rows)
        for key, slot in rows:
            known = self._by_key.get(key)
            if known is None:
                known = self._by_key[key] = EntityRows(key, self._rows_per_entity_max)
            known.add(accepted, slot)
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
            known = self._by_key.get(key)
            if known is not None:
                known.drop(oldest)
                if not known:
                    del self._by_key[key]
        self._rows.free([slot for _, slot in oldest.rows])


def _put_in_order(rows: _Found, begin: int, lacking: Iterable[Accepted]) -> None:
    """Sort rows from `begin` on by key, and by when their events were accepted."""
    number = {slot: one.number for one in lacking for _, slot in one.rows}
    found = zip(rows.keys[begin:], rows.slots[begin:], strict=True)
    ordered = sorted(found, key=lambda row: (row[0], number[row[1]]))
    rows.keys[begin:] = [key for key, _ in ordered]
    rows.slots[begin:] = [slot for _, slot in ordered]


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
