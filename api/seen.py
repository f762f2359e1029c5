"""what was asked, and what one round trip showed about it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from api.overlay_place import Place, is_in, marks_of
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


def own_rows_of(seen: Seen, places: Sequence[Place | None]) -> EntityUpdates:
    """Return the events' rows less those that the states read hold already.

    Args:
        seen: With what was read.
        places: Where the log has each event, None if it does not yet.
    """
    updates, reads = seen.updates, seen.reads
    if reads is None or not any(places):  # over HTTP, the log has none of them yet
        return updates
    rows = zip(updates.keys, updates.row_event.tolist(), strict=True)
    own = [
        row
        for row, (key, index) in enumerate(rows)
        if not is_in(places[index], marks_of(reads, seen.owner[key]))
    ]
    return updates if len(own) == len(updates) else updates.take(own)


class AppliedTo(NamedTuple):
    """What the partitions of an event's entities had applied.

    Attributes:
        by_partition: Partition (as text) → what it had applied.
        oldest_ms: Up to when the log is in the least fresh of them; 0 if one never said.
    """

    by_partition: dict[str, Applied]
    oldest_ms: int


def applied_by_event(seen: Seen | None, events: int) -> list[AppliedTo]:
    """Return for each event what was applied; events of the same partitions share it."""
    if seen is None or seen.reads is None:
        return [AppliedTo({}, 0)] * events
    fresh_ms, owner = seen.reads.fresh_until_ms, seen.owner
    known: dict[int, tuple[str, Applied]] = {}
    for partition in set(owner.values()):
        marks = seen.reads.watermarks.get(partition, Watermarks())
        known[partition] = (str(partition), Applied(**marks.next_offsets()))
    partitions: list[set[int]] = [set() for _ in range(events)]
    for key, index in zip(seen.updates.keys, seen.updates.row_event.tolist(), strict=True):
        partitions[index].add(owner[key])
    found: dict[tuple[int, ...], AppliedTo] = {}
    by_event: list[AppliedTo] = []
    for mine in partitions:
        name = tuple(sorted(mine))
        applied = found.get(name)
        if applied is None:
            oldest_ms = min((fresh_ms.get(p, 0) for p in name), default=0)
            applied = found[name] = AppliedTo(dict(known[p] for p in name), oldest_ms)
        by_event.append(applied)
    return by_event
