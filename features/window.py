"""states, updates → states; states, instant → features: the one window kernel.

The worker applies, the scorer applies to copies and evaluates, and both do it here. A state *is*
its canonical bytes: a function of the set of rows that were applied (`features.window_state`).
"""

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.spec import Spec
from features.spec_levels import BASE_VALUE_MAX
from features.update import EntityUpdates
from features.window_kernel import apply_rows, derive_rows
from features.window_plan import Rows, Scratch, plan_of, scratch_of, state_bytes_max
from features.window_state import CORRUPT, OK, WRONG_DIGEST, WRONG_ENTITY, WRONG_FORMAT

SLOTS_PER_CALL = 1024

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
    rows = _rows(updates, slot, len(blobs))
    entity = np.zeros(len(blobs), dtype=np.int64)
    entity[slot] = updates.entity
    touched = np.diff(rows.first) > 0
    capacity = max(state_bytes_max(spec, e) for e in spec.entities)
    room = _room(spec)
    excess = sum(array.nbytes for array in room)
    result: list[bytes] = list(blobs)
    for low in range(0, len(blobs), SLOTS_PER_CALL):
        some = np.flatnonzero(touched[low : low + SLOTS_PER_CALL]) + low
        data, offsets = _joined([blobs[s] for s in some.tolist()])
        out = np.empty(len(some) * capacity + excess, dtype=np.uint8)
        ends = np.zeros(len(some) + 1, dtype=np.int64)
        status, failed = apply_rows(
            plan_of(spec), room, data, offsets, some, entity, rows, out, ends, capacity
        )
        _check(spec, status, blobs, int(failed))
        folded = out[: ends[-1]].tobytes()
        edges = ends.tolist()
        for i, s in enumerate(some.tolist()):
            result[s] = folded[edges[i] : edges[i + 1]]
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
    width = len(spec.entities[entity].features)
    out = np.full((len(blobs), width), np.nan)
    entities = np.full(len(blobs), entity, dtype=np.int64)
    rows = np.arange(len(blobs), dtype=np.int64)
    none = np.zeros(0, dtype=np.int64)
    late = derive_into(
        spec, blobs, entities, none, None, at_ms, own_id, rows, np.zeros_like(rows), out
    )
    return out, late


def derive_into(
    spec: Spec,
    blobs: Sequence[bytes],
    entity: NDArray[np.int64],
    slot: NDArray[np.integer],
    updates: EntityUpdates | None,
    at_ms: NDArray[np.int64],
    own_id: NDArray[np.uint64],
    out_row: NDArray[np.int64],
    out_column: NDArray[np.int64],
    out: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Apply updates to copies of states and write the features of each slot into `out`.

    Args:
        spec: What the states mean.
        blobs: One state for each slot.
        entity: int64, shape (slots,): `EntitySpec.index` of each.
        slot: Integers, shape (len(updates),): which slot a row is applied to.
        updates: Rows to apply first, or none.
        at_ms: int64, shape (slots,): when to evaluate each.
        own_id: uint64, shape (slots,): as in `evaluate_many`.
        out_row: int64, shape (slots,): the row of `out` that a slot writes.
        out_column: int64, shape (slots,): the first column that it writes.
        out: float64, two dimensions.

    Returns:
        bool, shape (slots,): True where the question came late (`evaluate_many`).

    Raises:
        SchemaMismatch: A state is of another spec, format or entity.
        StateCorrupt: A state's bytes make no sense.
    """
    if updates is None:
        updates = _no_updates(spec)
        slot = np.zeros(0, dtype=np.int64)
    data, offsets = _joined(blobs)
    late = np.zeros(len(blobs), dtype=np.bool_)
    status, failed = derive_rows(
        plan_of(spec),
        _room(spec),
        data,
        offsets,
        entity,
        _rows(updates, slot, len(blobs)),
        np.ascontiguousarray(at_ms, dtype=np.int64),
        np.ascontiguousarray(own_id, dtype=np.uint64).view(np.int64),
        out_row,
        out_column,
        out,
        late,
    )
    _check(spec, status, blobs, int(failed))
    return late


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


def _rows(updates: EntityUpdates, slot: NDArray[np.integer], slots: int) -> Rows:
    """Return the columns in the kernel's types, refusing what no parser can have let through."""
    assert not len(updates) or int(np.abs(updates.value).max()) <= BASE_VALUE_MAX
    assert not len(updates) or int(updates.time_ms.min()) >= 0
    first = np.zeros(slots + 1, dtype=np.int64)
    np.cumsum(np.bincount(slot, minlength=slots), out=first[1:])
    return Rows(
        order=np.argsort(slot, kind="stable").astype(np.int64),
        first=first,
        series=np.ascontiguousarray(updates.series, dtype=np.uint8),
        time_ms=np.ascontiguousarray(updates.time_ms, dtype=np.int64),
        ids=np.ascontiguousarray(updates.id, dtype=np.uint64).view(np.int64),
        weight=np.ascontiguousarray(updates.count, dtype=np.int64),
        value=np.ascontiguousarray(updates.value, dtype=np.int64),
        fields=np.ascontiguousarray(updates.fields, dtype=np.uint32),
        filters=np.ascontiguousarray(updates.filters, dtype=np.uint8),
    )


def _joined(blobs: Sequence[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the states end to end, and their edges."""
    offsets = np.zeros(len(blobs) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, blobs), dtype=np.int64, count=len(blobs)), out=offsets[1:])
    return np.frombuffer(bytearray(b"".join(blobs)), dtype=np.uint8), offsets


def _room(spec: Spec) -> Scratch:
    """Return this thread's room for this spec."""
    rooms: dict[int, tuple[Spec, Scratch]] = _rooms.__dict__.setdefault("by_spec", {})
    found = rooms.get(id(spec))
    if found is None:
        rooms.clear()
        found = rooms[id(spec)] = (spec, scratch_of(spec))
    return found[1]


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


def _check(spec: Spec, status: int, blobs: Sequence[bytes], failed: int) -> None:
    if status == OK:
        return
    start = blobs[failed][:10].hex()
    if status == CORRUPT:
        raise StateCorrupt(f"state {failed} ({len(blobs[failed])} bytes, {start}…) is damaged")
    what = {
        WRONG_FORMAT: "has another state format",
        WRONG_DIGEST: f"was made by another feature spec than {spec.digest[:16]}",
        WRONG_ENTITY: "is of another kind of entity",
    }[status]
    raise SchemaMismatch(f"state {failed} ({start}…) {what}")
