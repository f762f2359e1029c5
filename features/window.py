"""states, updates → states; states, instant → features: the one window kernel.

The worker applies, the scorer applies to copies and evaluates, and both do it here. A state *is*
its canonical bytes: a function of the set of rows that were applied (`features.window_state`).
"""

import threading
from collections.abc import Sequence
from typing import NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.spec import Spec
from features.update import EntityUpdates
from features.window_kernel import WRONG_ROWS, apply_rows, derive_rows, group_rows
from features.window_plan import (
    Answers,
    Asked,
    Rows,
    plan_of,
    scratch_of,
    state_bytes_max,
)
from features.window_state import CORRUPT, OK, WRONG_DIGEST, WRONG_ENTITY, WRONG_FORMAT
from features.window_terms import terms_of

SLOTS_PER_CALL = 1024
ROOMS_MAX = 4
PADDING = bytes(8)  # the kernel loads whole words, so up to 7 bytes behind the last state

T = TypeVar("T", bound=np.generic)
_NO_OWN = np.zeros((0, 1))
_NO_X = np.zeros((0, 0), dtype=np.float32)
_rooms = threading.local()


class SchemaMismatch(ValueError):
    """A state was made by another feature spec, state format or entity than it is read with."""


class StateCorrupt(ValueError):
    """A state's bytes make no sense: something other than this kernel wrote them."""


def apply_many(
    spec: Spec, blobs: Sequence[bytes], slot: NDArray[np.integer], updates: EntityUpdates
) -> list[bytes]:
    """Return the states with the updates applied.

    Whatever the order of rows and however they are cut into batches, the same set of rows gives
    the same bytes. A row that the head already holds (same series, time and id) changes nothing;
    one that has left the head would count again, so older repeats must be told elsewhere.

    Args:
        spec: What the states mean.
        blobs: One state for each slot; `b""` is an entity never seen.
        slot: Integers, shape (len(updates),): index into `blobs` for each row.
        updates: The rows; those of one slot are of one entity.

    Raises:
        SchemaMismatch: A state is of another spec, format or entity.
        StateCorrupt: A state's bytes make no sense.
    """
    rows = _rows(updates, len(blobs))
    slot = np.ascontiguousarray(slot, dtype=np.int64)
    assert group_rows(slot, rows), "a row that no parser can have let through"
    entity = np.zeros(len(blobs), dtype=np.int64)
    entity[slot] = updates.entity
    touched = np.flatnonzero(np.diff(rows.first))
    room = _room(spec)
    result: list[bytes] = list(blobs)
    for low in range(0, len(touched), SLOTS_PER_CALL):
        some = touched[low : low + SLOTS_PER_CALL]
        places = some.tolist()
        before = [blobs[s] for s in places]
        offsets = np.zeros(len(before) + 1, dtype=np.int64)
        np.cumsum([len(blob) for blob in before], out=offsets[1:])
        ends = np.zeros(len(before) + 1, dtype=np.int64)
        out = room.output(len(before))
        status, failed = apply_rows(
            room.plan,
            room.scratch,
            _joined(before),
            offsets,
            some,
            entity,
            rows,
            out,
            ends,
            room.capacity,
        )
        if status != OK:
            _check(spec, status, blobs, failed)
        folded = out[: ends[-1]].tobytes()
        edges = ends.tolist()
        for s, begin, end in zip(places, edges, edges[1:], strict=False):
            result[s] = folded[begin:end]
    return result


def evaluate_many(
    spec: Spec,
    entity: int,
    blobs: Sequence[bytes],
    at_ms: NDArray[np.int64],
    own_id: NDArray[np.uint64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return features of one kind of entity, each at an instant of its own.

    Args:
        spec: What the states mean.
        entity: `EntitySpec.index` of all of them.
        blobs: States, m of them; `b""` is an entity never seen: counts of 0, the rest NaN.
        at_ms: int64, shape (m,): the instants; rows later than them do not count.
        own_id: uint64, shape (m,): id of the event that asks, which `since_last` leaves out
            when it has this very time.

    Returns:
        float64, shape (m, features of the entity), NaN where missing; and bool, shape (m,):
        True where the question came late: rows it needs may be forgotten (it lies more than
        `reorder` behind the state's newest time), or it lies before rows that are only in tiles.

    Raises:
        SchemaMismatch: A state is of another spec, format or entity.
        StateCorrupt: A state's bytes make no sense.
    """
    m = len(blobs)
    slots = np.empty((m, 3), dtype=np.int64)
    slots[:, 0] = entity
    slots[:, 1] = np.arange(m)
    slots[:, 2] = [len(blob) for blob in blobs]
    values = np.empty((m, len(spec.entities[entity].features)))
    late = np.empty(m, dtype=np.bool_)
    room = _room(spec)
    answers = Answers(values, late, room.terms, _NO_OWN, _NO_X)
    at_ms = np.ascontiguousarray(at_ms, dtype=np.int64)
    own_id = np.ascontiguousarray(own_id, dtype=np.uint64)
    _derive(spec, room, blobs, slots, room.none, at_ms, own_id, room.no_columns, answers)
    return values, late


def derive_into(
    spec: Spec,
    blobs: Sequence[bytes],
    slots: NDArray[np.int64],
    updates: EntityUpdates,
    at_ms: NDArray[np.int64],
    own_id: NDArray[np.uint64],
    own: NDArray[np.float64],
    X: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Apply updates to copies of states and write whole vectors into `X`.

    Args:
        spec: What the states mean.
        blobs: One state for each slot.
        slots: int64, shape (slots, 3): `EntitySpec.index`, question, and bytes of each state.
        updates: Rows to apply first: `entity` and `row_event` (the question) say to which state,
            which must be there.
        at_ms: int64, shape (m,): each question's instant.
        own_id: uint64, shape (m,): as in `evaluate_many`.
        own: float64, shape (m, 1 + categories): amount in base minor units, categories' indices.
        X: float32, shape (m, n_features): the vectors; NaN is missing.

    Returns:
        bool, shape (m,): True where some state was asked late (`evaluate_many`).

    Raises:
        SchemaMismatch: A state is of another spec, format or entity.
        StateCorrupt: A state's bytes make no sense.
    """
    room = _room(spec)
    late = np.empty(len(X), dtype=np.bool_)
    answers = Answers(np.empty(X.shape), late, room.terms, own, X)
    _derive(spec, room, blobs, slots, updates, at_ms, own_id, room.columns, answers)
    return late


def _derive(
    spec: Spec,
    room: "_Room",
    blobs: Sequence[bytes],
    slots: NDArray[np.int64],
    updates: EntityUpdates,
    at_ms: NDArray[np.int64],
    own_id: NDArray[np.uint64],
    columns: NDArray[np.int64],
    answers: Answers,
) -> None:
    places = np.empty((len(at_ms), len(columns)), dtype=np.int64)
    asked = Asked(_joined(blobs), slots, at_ms, own_id, columns, places)
    rows = _rows(updates, len(blobs))
    status, failed = derive_rows(
        room.plan, room.scratch, asked, rows, np.empty(len(updates), dtype=np.int64), answers
    )
    if status != OK:
        _check(spec, status, blobs, failed)


def warm_up(spec: Spec) -> None:
    """Compile everything (or load it from numba's disk cache), so that no caller waits later."""
    none = _no_updates(spec)
    one = EntityUpdates(
        keys=[b""],
        entity=np.zeros(1, dtype=np.uint8),
        series=np.zeros(1, dtype=np.uint8),
        time_ms=np.zeros(1, dtype=np.int64),
        id=np.zeros(1, dtype=np.uint64),
        count=np.ones(1, dtype=np.int64),
        value=np.zeros(1, dtype=np.int64),
        fields=np.zeros((1, none.fields.shape[1]), dtype=np.uint32),
        filters=np.zeros(1, dtype=np.uint8),
        row_event=np.zeros(1, dtype=np.int32),
    )
    blobs = apply_many(spec, [b""], np.zeros(1, dtype=np.int64), one)
    evaluate_many(spec, 0, blobs, np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.uint64))


class _Room:
    """What one thread keeps for one spec: its plan, and room for the kernel."""

    def __init__(self, spec: Spec) -> None:
        widths = [0, *(len(entity.features) for entity in spec.entities)]
        self.spec = spec
        self.plan = plan_of(spec)
        self.scratch = scratch_of(spec)
        self.terms = terms_of(spec)
        self.columns = np.cumsum(widths, dtype=np.int64)[:-1].copy()
        self.no_columns = np.zeros_like(self.columns)
        self.none = _no_updates(spec)
        self.capacity = max(state_bytes_max(spec, entity) for entity in spec.entities)
        self.excess = sum(array.nbytes for array in self.scratch)
        self._output = np.empty(0, dtype=np.uint8)

    def output(self, states: int) -> NDArray[np.uint8]:
        """Return room for so many states, and for what a damaged one can have too much."""
        size = states * self.capacity + self.excess
        if len(self._output) < size:
            self._output = np.empty(size, dtype=np.uint8)
        return self._output


def _room(spec: Spec) -> _Room:
    """Return this thread's room for this spec."""
    rooms: dict[int, _Room] = _rooms.__dict__.setdefault("by_spec", {})
    found = rooms.get(id(spec))
    if found is None:
        if len(rooms) >= ROOMS_MAX:
            rooms.clear()
        found = rooms[id(spec)] = _Room(spec)
    return found


def _rows(updates: EntityUpdates, slots: int) -> Rows:
    """Return the columns as the kernel was compiled for them."""
    return Rows(
        order=np.empty(len(updates), dtype=np.int64),
        first=np.empty(slots + 1, dtype=np.int64),
        entity=_own(updates.entity),
        event=_own(updates.row_event),
        series=_own(updates.series),
        time_ms=_own(updates.time_ms),
        ids=_own(updates.id),
        weight=_own(updates.count),
        value=_own(updates.value),
        fields=_own(updates.fields),
        filters=_own(updates.filters),
    )


def _own(array: NDArray[T]) -> NDArray[T]:
    """Return the array, or a copy, contiguous and writable: others would be compiled for anew."""
    return array if array.flags.carray else array.copy()


def _joined(blobs: Sequence[bytes]) -> NDArray[np.uint8]:
    """Return the states end to end."""
    return np.frombuffer(b"".join([*blobs, PADDING]), dtype=np.uint8)


def _no_updates(spec: Spec) -> EntityUpdates:
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


def _check(spec: Spec, status: int, blobs: Sequence[bytes], failed: int) -> NoReturn:
    assert status != WRONG_ROWS, "a row without a state, or that no parser can have let through"
    start = blobs[failed][:10].hex()
    if status == CORRUPT:
        raise StateCorrupt(f"state {failed} ({len(blobs[failed])} bytes, {start}…) is damaged")
    what = {
        WRONG_FORMAT: "has another state format",
        WRONG_DIGEST: f"was made by another feature spec than {spec.digest[:16]}",
        WRONG_ENTITY: "is of another kind of entity",
    }[status]
    raise SchemaMismatch(f"state {failed} ({start}…) {what}")
