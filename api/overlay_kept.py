"""accepted events and their rows, in rings: what an overlay keeps, and forgets in order."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from api.overlay_find import (
    ALIVE,
    FIRST_ROW,
    KEY,
    NONE,
    OFFSET,
    PARTITION,
    link_rows,
)
from api.overlay_place import Place
from features.update import EntityUpdates

RING_AT_FIRST: Final = 4_096
_COLUMNS = ("entity", "series", "time_ms", "id", "count", "value", "fields", "filters")


class Linked(NamedTuple):
    """A batch's rows and the chains that they were put in, as `api.overlay_find` has them."""

    ends: NDArray[np.int64]
    lowest: NDArray[np.int64]
    starts: NDArray[np.int64]


class Kept:
    """Events by number, their rows by number, and the chain of each key (`api.overlay_find`).

    Attributes:
        events: int64, shape (4, ring).
        rows: int64, shape (3, ring).
    """

    def __init__(self, events_max: int, max_fields: int) -> None:
        """Keep nothing.

        Args:
            events_max: Events before a question that count for it; older ones are dropped.
            max_fields: Columns of `EntityUpdates.fields`.
        """
        self._events_max = events_max
        self._oldest = self._next = 0  # events
        self._oldest_row = self._next_row = 0
        self.events = np.zeros((4, RING_AT_FIRST), np.int64)
        self.rows = np.zeros((3, RING_AT_FIRST), np.int64)
        self._names = [""] * RING_AT_FIRST
        self._accepted_ms = [0] * RING_AT_FIRST
        self._columns = _empty(RING_AT_FIRST, max_fields)
        self._number_of: dict[str, int] = {}
        self._key_of: dict[bytes, int] = {}
        self._keys: list[bytes] = []
        self._free_keys: list[int] = []
        self._newest = np.full(RING_AT_FIRST, NONE, np.int64)

    def __len__(self) -> int:
        """Return how many events are kept."""
        return self._next - self._oldest

    def names(self, numbers: NDArray[np.int64]) -> list[str]:
        """Return the names of events."""
        every = self._names
        return [every[at] for at in (numbers & (len(every) - 1)).tolist()]

    def add_many(
        self, names: Sequence[str], places: Sequence[Place | None], now_ms: int
    ) -> list[int]:
        """Take events whose rows come with `link`; return their numbers, -1 of one that is kept."""
        mask, first, known = len(self._names) - 1, self._next, self._number_of
        numbers: list[int] = []
        placed: list[tuple[int, Place]] = []
        for name, place in zip(names, places, strict=True):
            if name in known:
                numbers.append(NONE)
                continue
            number = known[name] = self._next
            self._names[number & mask] = name
            self._accepted_ms[number & mask] = now_ms
            numbers.append(number)
            if place is not None:
                placed.append((number & mask, place))
            self._next += 1
        at = _stretch(first, self._next - first, mask)
        self.events[PARTITION, at] = NONE
        self.events[ALIVE, at] = True
        for one, place in placed:
            self.events[PARTITION, one], self.events[OFFSET, one] = place
        return numbers

    def place(self, name: str, place: Place) -> None:
        """Note where the log has an event, if it is kept."""
        number = self._number_of.get(name)
        if number is not None:
            at = number & (len(self._names) - 1)
            self.events[PARTITION, at], self.events[OFFSET, at] = place

    def kill(self, name: str) -> None:
        """Let an event's rows count no more, if it is kept; it may come again."""
        number = self._number_of.pop(name, None)
        if number is not None:
            self.events[ALIVE, number & (len(self._names) - 1)] = False

    def link(self, updates: EntityUpdates, numbers: Sequence[int]) -> Linked:
        """Take the rows of a batch's accepted events, and chain them.

        Args:
            updates: The batch's rows.
            numbers: Of each question's event; -1: it is not accepted.
        """
        m, keys = len(numbers), self._keys_of(updates, numbers)
        mine = updates
        if NONE in numbers:
            accepted = np.array(numbers, np.int64) >= 0
            mine = updates.take(np.flatnonzero(accepted[updates.row_event]))
        at = _stretch(self._next_row, len(mine), self.rows.shape[1] - 1)
        for name in _COLUMNS:
            getattr(self._columns, name)[at] = getattr(mine, name)
        linked = Linked(np.empty(m, np.int64), np.empty(m, np.int64), np.empty(len(keys), np.int64))
        self._next_row = link_rows(
            self.events,
            self.rows,
            self._newest,
            np.array([*numbers, self._next], np.int64),
            updates.row_event,
            keys,
            self._oldest,
            self._next_row,
            self._events_max,
            *linked,
        )
        return linked

    def take(
        self, rows: NDArray[np.int64], keys: list[bytes], question: NDArray[np.int32]
    ) -> EntityUpdates:
        """Return rows by number, with the keys and questions that are given."""
        at = rows & (self.rows.shape[1] - 1)
        columns = {name: getattr(self._columns, name)[at] for name in _COLUMNS}
        return EntityUpdates(keys=keys, row_event=question, **columns)

    def drop(self, before_ms: int) -> None:
        """Forget events accepted before this time, and what more there are than may be.

        Their rows go with them, and keys that no other row has.
        """
        number, mask, accepted_ms = self._oldest, len(self._names) - 1, self._accepted_ms
        while number < self._next and accepted_ms[number & mask] < before_ms:
            number += 1
        number = max(number, self._next - self._events_max)
        if number == self._oldest:
            return
        first_row = int(self.events[FIRST_ROW, number & mask])
        rows = np.arange(self._oldest_row, first_row)
        keys = self.rows[KEY, rows & (self.rows.shape[1] - 1)]
        for key in keys[self._newest[keys] == rows].tolist():
            del self._key_of[self._keys[key]]
            self._free_keys.append(key)
        for one in range(self._oldest, number):
            name = self._names[one & mask]
            if self._number_of.get(name) == one:
                del self._number_of[name]
        self._oldest, self._oldest_row = number, first_row

    def make_room(self, events: int, rows: int) -> None:
        """Let so many more events and rows be taken: rings grow by doubling, and never shrink."""
        size, count = len(self._names), len(self) + events + 1  # the next event has a `FIRST_ROW`
        if count > size:
            numbers = np.arange(self._oldest, self._next + 1)
            grown = _grown(size, count)
            names, accepted_ms = [""] * grown, [0] * grown
            for number in numbers.tolist():
                names[number & (grown - 1)] = self._names[number & (size - 1)]
                accepted_ms[number & (grown - 1)] = self._accepted_ms[number & (size - 1)]
            self._names, self._accepted_ms = names, accepted_ms
            self.events = _moved(self.events.T, numbers, grown).T.copy()
        size, count = self.rows.shape[1], self._next_row - self._oldest_row + rows
        if count > size:
            numbers = np.arange(self._oldest_row, self._next_row)
            grown = _grown(size, count)
            self.rows = _moved(self.rows.T, numbers, grown).T.copy()
            moved = {n: _moved(getattr(self._columns, n), numbers, grown) for n in _COLUMNS}
            self._columns = EntityUpdates(keys=[], row_event=np.zeros(0, np.int32), **moved)

    def _keys_of(self, updates: EntityUpdates, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Return the number of each row's key; those of events that are accepted get one."""
        found = list(map(self._key_of.get, updates.keys))
        if None in found:
            rows = zip(updates.keys, found, updates.row_event.tolist(), strict=True)
            for row, (key, known, question) in enumerate(rows):
                if known is None:
                    one = self._key_of.get(key, NONE)
                    found[row] = self._new_key(key) if one < 0 <= numbers[question] else one
        return np.array(found, np.int64)

    def _new_key(self, key: bytes) -> int:
        if self._free_keys:
            number = self._free_keys.pop()
            self._keys[number] = key
        else:
            number = len(self._keys)
            self._keys.append(key)
            if number == len(self._newest):
                more = np.full(number, NONE, np.int64)
                self._newest = np.concatenate([self._newest, more])
        self._newest[number] = NONE
        self._key_of[key] = number
        return number


def _stretch(first: int, count: int, mask: int) -> slice | NDArray[np.int64]:
    """Return the places of consecutive numbers in a ring."""
    at = first & mask
    if at + count <= mask + 1:
        return slice(at, at + count)
    return np.arange(first, first + count) & mask


def _grown(size: int, least: int) -> int:
    while size < least:
        size *= 2
    return size


def _moved(ring: Any, numbers: NDArray[np.int64], size: int) -> Any:
    """Return a larger ring, where the entries of these numbers stand in their new places."""
    larger = np.zeros((size, *ring.shape[1:]), ring.dtype)
    larger[numbers & (size - 1)] = ring[numbers & (len(ring) - 1)]
    return larger


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
