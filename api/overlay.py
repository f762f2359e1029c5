"""own accepted events → rows to apply on top of what was read: a burst sees itself.

An event that this process decided may not be in the store yet. Its rows are kept here for
`overlay_s`, and leave earlier for a reader whose watermark shows that the log's copy was applied.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from api.overlay_find import FOUND, NONE, ROOM_LACKS, find_lacking
from api.overlay_kept import Kept, Linked
from api.overlay_place import Place
from features.event import Event, identity_of
from features.spec import Spec
from features.store import Reads
from features.update import EntityUpdates
from features.window_room import no_updates

OUT_AT_FIRST = 4_096


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


class Overlay:
    """The rows of the last `overlay_s`, by entity. Bounded in events and in rows per entity."""

    def __init__(
        self, overlay_s: float, events_max: int, rows_per_entity_max: int, max_fields: int
    ) -> None:
        """Bound everything.

        Args:
            overlay_s: Wall time for which an event is kept.
            events_max: Events kept; the oldest leave first.
            rows_per_entity_max: Newest rows of one entity by which events are found to be lacking.
            max_fields: Columns of `EntityUpdates.fields`.
        """
        self._keep_ms = int(overlay_s * 1000)
        self._rows_per_entity_max = rows_per_entity_max
        self._kept = Kept(events_max, max_fields)
        self._out = np.empty((4, OUT_AT_FIRST), np.int64)

    @property
    def size(self) -> int:
        """Events kept now."""
        return len(self._kept)

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

        All that the states lack of an event that is named is in the rows: who makes the vector
        again has no more than its name. Events, and the rows of each key, are in the order in which
        they were accepted.

        Args:
            events: The batch; each sees those before it.
            places: Where the log has each, None if it does not yet.
            updates: The batch's rows, ascending in `row_event`; no key comes twice of one event.
            reads: What was read; rows that its watermarks cover are left out.
            partition_of: Entity key → updates partition, of the keys that were read.
            now_ms: Wall clock.
            keep: Whether the batch is accepted at all; if not, only the question is answered.
        """
        kept = self._kept
        kept.drop(now_ms - self._keep_ms)
        kept.make_room(len(events), len(updates))
        numbers = [NONE] * len(events)
        if keep:
            numbers = kept.add_many([identity_of(event) for event in events], places, now_ms)
        linked = kept.link(updates, numbers)
        lacking = self._find(updates, linked, *_marks(updates, reads, partition_of))
        kept.drop(now_ms - self._keep_ms)
        return lacking

    def place(self, name: str, place: Place) -> None:
        """Learn where the log put an event that was accepted before."""
        self._kept.place(name, place)

    def forget(self, name: str) -> None:
        """Take back an event that was not recorded after all."""
        self._kept.kill(name)

    def _find(
        self,
        updates: EntityUpdates,
        linked: Linked,
        marks: NDArray[np.int64],
        ahead: NDArray[np.int64],
    ) -> Lacking:
        """Ask the chains, with room for the answer that grows by doubling."""
        kept, count = self._kept, len(linked.ends)
        room = np.empty((len(updates), FOUND + self._rows_per_entity_max), np.int64)
        edges = np.zeros((count + 1, 2), np.int64)
        while True:
            rows = find_lacking(
                kept.events,
                kept.rows,
                *linked,
                marks,
                ahead,
                room,
                self._rows_per_entity_max,
                edges[1:],
                self._out[:2],
                self._out[2:],
            )
            if rows != ROOM_LACKS:
                break
            self._out = np.empty((4, 2 * self._out.shape[1]), np.int64)
        if not rows:
            return Lacking(None, [[] for _ in range(count)], [[] for _ in range(count)])
        cuts, asking = edges[:, 0].tolist(), self._out[3, :rows]
        every = kept.names(self._out[0, : cuts[-1]])
        names = [every[a:b] for a, b in pairwise(cuts)]
        open_ = self._out[1, : cuts[-1]].tolist()
        unplaced = [
            [name for name, one in zip(every[a:b], open_[a:b], strict=True) if one]
            for a, b in pairwise(cuts)
        ]
        mine = [updates.keys[row] for row in asking.tolist()]
        found = kept.take(self._out[2, :rows], mine, updates.row_event[asking])
        return Lacking(found, names, unplaced)


def _marks(
    updates: EntityUpdates, reads: Reads | None, partition_of: Mapping[bytes, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how far the events topic is in each partition read, and which of these is each row's.

    The offsets are int64, shape (partitions + 1, partitions of the topic), 0 where nothing is
    known; the last partition is that of keys of which nothing was read.
    """
    read = [] if reads is None else list(reads.watermarks.items())
    ahead = np.zeros((len(read) + 1, max((len(m.e) for _, m in read), default=0)), np.int64)
    for index, (_, marks) in enumerate(read):
        ahead[index, : len(marks.e)] = [mark.next_offset for mark in marks.e]
    place = {partition: index for index, (partition, _) in enumerate(read)}
    nobody = len(read)
    rows = [place.get(partition_of.get(key, NONE), nobody) for key in updates.keys]
    return np.array(rows, np.int64), ahead


def warm_up(spec: Spec) -> None:
    """Compile everything (or load it from numba's disk cache), so that no caller waits later."""
    Overlay(0.0, 0, 1, spec.max_fields).accept_many([], [], no_updates(spec), None, {}, 0)
