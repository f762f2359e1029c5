"""own accepted events → rows to apply on top of what was read: a burst sees itself.

An event that this process decided may not be in the store yet. Its rows are kept here for
`overlay_s`, and leave earlier for a reader whose watermark shows that the log's copy was applied.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import ge
from typing import NamedTuple

import numpy as np

from api.overlay_rows import Rows
from features.event import Event, identity_of
from features.store import Reads, SourceMark
from features.update import EntityUpdates


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


class _Known:
    """The newest events of one entity, oldest first.

    A key that everybody uses has many, all but the newest of which its state has: those that are
    known to be in it are set apart, and not asked about again while its marks only grow.
    """

    __slots__ = ("_at_most", "_fresh", "_marks", "_settled")

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._settled: deque[_Accepted] = deque()
        self._fresh: deque[_Accepted] = deque()
        self._marks: Sequence[int] = ()

    def __bool__(self) -> bool:
        return bool(self._settled or self._fresh)

    def add(self, accepted: _Accepted) -> None:
        """Take one more; beyond the bound the oldest leaves."""
        if len(self._settled) + len(self._fresh) == self._at_most:
            (self._settled or self._fresh).popleft()
        self._fresh.append(accepted)

    def drop(self, oldest: _Accepted) -> None:
        """Let the oldest of all events go, if newer ones have not pushed it out."""
        line = self._settled or self._fresh
        if line and line[0] is oldest:
            line.popleft()

    def lacking(self, ahead: Sequence[int]) -> Iterator[_Accepted]:
        """Yield those that a state lacks whose partition has applied up to these offsets."""
        if ahead is not self._marks:
            if not _covers(ahead, self._marks):  # a state that went back: ask about all again
                self._fresh.extendleft(reversed(self._settled))
                self._settled.clear()
            self._marks = ahead
        fresh = self._fresh
        while fresh and not (fresh[0].alive and fresh[0].lacks(ahead)):
            self._settled.append(fresh.popleft())
        return (one for one in fresh if one.alive and one.lacks(ahead))


def _covers(ahead: Sequence[int], before: Sequence[int]) -> bool:
    return len(ahead) >= len(before) and all(map(ge, ahead, before))


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
        self._by_key: dict[bytes, _Known] = {}
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
        begin, found, question = 0, list[tuple[bytes, int]](), list[int]()
        names: list[list[str]] = []
        for index, (event, place, end) in enumerate(zip(events, places, ends, strict=True)):
            keys = updates.keys[begin:end]
            lacking = self._lacking(keys, ahead_of, partition_of)
            if lacking:
                before = len(found)
                found.extend(_rows_of(lacking, keys, ahead_of, partition_of))
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
        """Return the events that some key's state lacks, oldest first by key."""
        lacking: dict[_Accepted, None] = {}
        for key in keys:
            known = self._by_key.get(key)
            if known is not None:
                ahead = ahead_of.get(partition_of.get(key, -1), ())
                lacking.update(dict.fromkeys(known.lacking(ahead)))
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
                known = self._by_key[key] = _Known(self._rows_per_entity_max)
            known.add(accepted)
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


def _rows_of(
    lacking: Iterable[_Accepted],
    keys: Sequence[bytes],
    ahead_of: Mapping[int, Sequence[int]],
    partition_of: Mapping[bytes, int],
) -> Iterator[tuple[bytes, int]]:
    """Yield all rows of these events that the states of these keys lack.

    All, so that an event's name says what was applied: also those that newer ones pushed out.
    """
    ahead = {key: ahead_of.get(partition_of.get(key, -1), ()) for key in keys}
    for one in lacking:
        for row in one.rows:
            marks = ahead.get(row[0])
            if marks is not None and one.lacks(marks):
                yield row


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
