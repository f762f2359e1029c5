"""what was asked, and what one round trip showed about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from api.overlay import Place
from features.event import Event
from features.store import Reads, Watermarks
from features.update import EntityUpdates
from models.decision import Applied, Source


class Asked(NamedTuple):
    """One event to decide, and the door that it came through."""

    event: Event
    source: Source


@dataclass(frozen=True, slots=True)
class Seen:
    """What one round trip showed.

    Attributes:
        updates: The rows of the events that were asked about, ascending in `row_event`.
        reads: None when the store gave no answer in time.
        owner: Key → updates partition, of the keys that were read.
        blob: Key → state, likewise.
        began: Clock of the step at its start (seconds).
        took_s: Time that the read took.
    """

    updates: EntityUpdates
    reads: Reads | None
    owner: Mapping[bytes, int]
    blob: Mapping[bytes, bytes]
    began: float
    took_s: float

    def only(self, kept: Sequence[int]) -> "Seen":
        """Return what was seen for some of the events, which are then numbered from 0."""
        number = {old: new for new, old in enumerate(kept)}
        rows = [r for r, old in enumerate(self.updates.row_event.tolist()) if old in number]
        updates = self.updates.take(rows)
        numbers = np.array([number[old] for old in updates.row_event.tolist()], np.int32)
        return replace(self, updates=replace(updates, row_event=numbers))


def place_of(source: Source) -> Place | None:
    """Return where the log has an event; None if that is not known yet."""
    if source.partition is None or source.offset is None:
        return None
    return Place(source.partition, source.offset)


def applied_by_event(seen: Seen | None, events: int) -> list[dict[str, Applied]]:
    """Return for each event what the partitions of its entities had applied."""
    by_event: list[dict[str, Applied]] = [{} for _ in range(events)]
    if seen is None or seen.reads is None:
        return by_event
    known: dict[int, tuple[str, Applied]] = {}
    for partition in set(seen.owner.values()):
        marks = seen.reads.watermarks.get(partition, Watermarks())
        known[partition] = (str(partition), Applied(**marks.next_offsets()))
    for key, index in zip(seen.updates.keys, seen.updates.row_event.tolist(), strict=True):
        name, applied = known[seen.owner[key]]
        by_event[index][name] = applied
    return by_event
