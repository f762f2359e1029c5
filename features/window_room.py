"""spec, updates, states → what the kernel is handed: the plan, room to work in, rows in columns."""

import threading
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from features.spec import Spec
from features.update import EntityUpdates
from features.window_plan import Rows, plan_of, scratch_of, state_bytes_max
from features.window_terms import terms_of

ROOMS_MAX = 4
PADDING = bytes(8)  # the kernel loads whole words, so up to 7 bytes behind the last state

T = TypeVar("T", bound=np.generic)
_rooms = threading.local()


class Room:
    """What one thread keeps for one spec: its plan, and room for the kernel."""

    def __init__(self, spec: Spec) -> None:
        """Make room for any state of the spec."""
        widths = [0, *(len(entity.features) for entity in spec.entities)]
        self.spec = spec
        self.plan = plan_of(spec)
        self.scratch = scratch_of(spec)
        self.plain = (tuple(self.plan), tuple(self.scratch))
        self.terms = terms_of(spec)
        self.columns = np.cumsum(widths, dtype=np.int64)[:-1].copy()
        self.no_columns = np.zeros_like(self.columns)
        self.none = no_updates(spec)
        self.capacity = max(state_bytes_max(spec, entity) for entity in spec.entities)
        self.excess = sum(array.nbytes for array in self.scratch)
        self._output = np.empty(0, dtype=np.uint8)

    def output(self, states: int) -> NDArray[np.uint8]:
        """Return room for so many states, and for what a damaged one can have too much."""
        size = states * self.capacity + self.excess
        if len(self._output) < size:
            self._output = np.empty(size, dtype=np.uint8)
        return self._output


def room_of(spec: Spec) -> Room:
    """Return this thread's room for this spec."""
    rooms: dict[int, Room] = _rooms.__dict__.setdefault("by_spec", {})
    found = rooms.get(id(spec))
    if found is None:
        if len(rooms) >= ROOMS_MAX:
            rooms.clear()
        found = rooms[id(spec)] = Room(spec)
    return found


def rows_of(updates: EntityUpdates, slots: int) -> Rows:
    """Return the columns as the kernel was compiled for them."""
    return Rows(
        order=np.empty(len(updates), dtype=np.int64),
        first=np.empty(slots + 1, dtype=np.int64),
        entity=_settled(updates.entity),
        event=_settled(updates.row_event),
        series=_settled(updates.series),
        time_ms=_settled(updates.time_ms),
        ids=_settled(updates.id),
        weight=_settled(updates.count),
        value=_settled(updates.value),
        fields=_settled(updates.fields),
        filters=_settled(updates.filters),
    )


def _settled(array: NDArray[T]) -> NDArray[T]:
    """Return the array, or a copy, contiguous and writable: others would be compiled for anew."""
    return array if array.flags.carray else array.copy()


def join(blobs: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return the states end to end."""
    return np.frombuffer(b"".join([*blobs, PADDING]), dtype=np.uint8)


def no_updates(spec: Spec) -> EntityUpdates:
    """Return no rows."""
    return EntityUpdates(
        keys=[],
        entity=np.zeros(0, dtype=np.uint8),
        series=np.zeros(0, dtype=np.uint8),
        time_ms=np.zeros(0, dtype=np.int64),
        id=np.zeros(0, dtype=np.uint64),
        count=np.zeros(0, dtype=np.int64),
        value=np.zeros(0, dtype=np.int64),
        fields=np.zeros((0, spec.max_fields), dtype=np.uint32),
        filters=np.zeros(0, dtype=np.uint8),
        row_event=np.zeros(0, dtype=np.int32),
    )
