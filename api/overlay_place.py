"""where the log has an event, and whether a state has applied it."""

from collections.abc import Sequence
from typing import NamedTuple

from features.store import Reads, SourceMark


class Place(NamedTuple):
    """Partition and offset of an event on the events topic."""

    partition: int
    offset: int


def marks_of(reads: Reads, partition: int) -> Sequence[SourceMark]:
    """Return how far the events topic is in a partition; nothing if nobody ever wrote there."""
    watermarks = reads.watermarks.get(partition)
    return watermarks.e if watermarks is not None else ()


def is_in(place: Place | None, marks: Sequence[SourceMark]) -> bool:
    """Whether marks of the events topic cover a place in it; an unknown place is not covered."""
    if place is None or place.partition >= len(marks):
        return False
    return place.offset < marks[place.partition].next_offset
