"""marks of a state → which newest rows of its entity it lacks."""

from collections import deque
from collections.abc import Sequence
from operator import ge
from typing import NamedTuple


class Place(NamedTuple):
    """Partition and offset of an event on the events topic."""

    partition: int
    offset: int


_NOWHERE = Place(-1, -1)


class Accepted:
    """One event, its rows (key and slot), and where the log has it (-1, -1: not known yet).

    Attributes:
        number: Grows from event to event.
        alive: Whether it was recorded, or still may be.
        pushed: Its rows that newer ones pushed out of their entity's bound.
    """

    __slots__ = ("accepted_ms", "alive", "name", "number", "offset", "partition", "pushed", "rows")

    def __init__(
        self,
        number: int,
        name: str,
        accepted_ms: int,
        place: Place | None,
        rows: list[tuple[bytes, int]],
    ) -> None:
        """Begin alive, with no row pushed out."""
        self.number = number
        self.name = name
        self.accepted_ms = accepted_ms
        self.partition, self.offset = place or _NOWHERE
        self.rows = rows
        self.alive = True
        self.pushed: list[tuple[bytes, int]] = []

    def lacks(self, ahead: Sequence[int]) -> bool:
        """Whether a partition that has applied up to these offsets has not applied the log's copy.

        Args:
            ahead: Next offset by partition of the events topic.
        """
        partition = self.partition
        return not 0 <= partition < len(ahead) or self.offset >= ahead[partition]


class EntityRows:
    """The newest rows of one entity (event and slot), oldest first.

    A key that everybody uses has many, all but the newest of which its state has: those that are
    known to be in it are set apart, and not asked about again while its marks only grow.
    """

    __slots__ = ("_at_most", "_fresh", "_key", "_marks", "_settled")

    def __init__(self, key: bytes, at_most: int) -> None:
        """Bound the rows of an entity's key."""
        self._key = key
        self._at_most = at_most
        self._settled: deque[tuple[Accepted, int]] = deque()
        self._fresh: deque[tuple[Accepted, int]] = deque()
        self._marks: Sequence[int] = ()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._settled or self._fresh)

    def add(self, accepted: Accepted, slot: int) -> None:
        """Take one more; beyond the bound the oldest is pushed out."""
        if len(self._settled) + len(self._fresh) == self._at_most:
            oldest, its_slot = (self._settled or self._fresh).popleft()
            oldest.pushed.append((self._key, its_slot))
        self._fresh.append((accepted, slot))

    def drop(self, oldest: Accepted) -> None:
        """Let the oldest of all events go, if newer ones have not pushed it out."""
        line = self._settled or self._fresh
        if line and line[0][0] is oldest:
            line.popleft()

    def lacking(self, ahead: Sequence[int], found: dict[Accepted, None], slots: list[int]) -> None:
        """Add what a state lacks whose partition has applied up to these offsets; in a hurry."""
        fresh = self._fresh
        if ahead is not self._marks:
            if not _covers(ahead, self._marks):  # a state that went back: ask about all again
                fresh.extendleft(reversed(self._settled))
                self._settled.clear()
            self._marks = ahead
            while fresh and not (fresh[0][0].alive and fresh[0][0].lacks(ahead)):
                self._settled.append(fresh.popleft())
        count = len(ahead)
        for one, slot in fresh:
            partition = one.partition
            if one.alive and not (0 <= partition < count and one.offset < ahead[partition]):
                found[one] = None
                slots.append(slot)


def _covers(ahead: Sequence[int], before: Sequence[int]) -> bool:
    return len(ahead) >= len(before) and all(map(ge, ahead, before))
