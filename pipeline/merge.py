"""records of several partitions → one sequence in the order of their append, as far as it is known.

While a learner catches up, fetches bring a megabyte of each partition: ten times as many labels as
decisions. Without order labels would run days ahead of their decisions, and silence ahead of
labels.
"""

import heapq
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

BUFFER_RECORDS = 4_000


class Appended(Protocol):
    """A record that knows when the log took it."""

    @property
    def timestamp(self) -> int:
        """Append time in ms; never falls within a partition."""


P = TypeVar("P", bound=Hashable)
R = TypeVar("R", bound=Appended)


class Merge(Generic[P, R]):
    """Holds what was fetched and not yet released, in order within each partition."""

    def __init__(self, partitions: Sequence[P], buffer_records: int = BUFFER_RECORDS) -> None:
        """Make an empty merge.

        Args:
            partitions: All of them; ties in time are released in this order.
            buffer_records: A partition with so many in hand wants no more for now.
        """
        self._order = {partition: index for index, partition in enumerate(partitions)}
        self._held: dict[P, deque[R]] = {partition: deque() for partition in partitions}
        self._limit = buffer_records

    @property
    def empty(self) -> bool:
        """Whether nothing is held."""
        return not any(self._held.values())

    def add(self, partition: P, records: Iterable[R]) -> None:
        """Take fetched records of one partition."""
        self._held[partition].extend(records)

    def full(self) -> set[P]:
        """Return the partitions of which there is enough in hand."""
        return {partition for partition, held in self._held.items() if len(held) >= self._limit}

    def release(self, limit: int, ended: set[P]) -> list[tuple[P, R]]:
        """Return the next records in order, at most `limit`.

        Args:
            limit: Most records to return.
            ended: Partitions that have no more to give at this moment. Where one that has not
                ended is empty, its next record may be the oldest of all: the rest must wait.
        """
        waiting = {partition for partition, held in self._held.items() if not held} - ended
        if waiting:
            return []
        heads = [
            (held[0].timestamp, self._order[partition], partition)
            for partition, held in self._held.items()
            if held
        ]
        heapq.heapify(heads)
        released: list[tuple[P, R]] = []
        while heads and len(released) < limit:
            _, order, partition = heads[0]
            held = self._held[partition]
            released.append((partition, held.popleft()))
            if held:
                heapq.heapreplace(heads, (held[0].timestamp, order, partition))
            elif partition in ended:
                heapq.heappop(heads)
            else:
                break
        return released
