"""states, updates → states; states, instant → features: the one window kernel.

The worker applies, the scorer applies to copies and evaluates, and both do it here. A state *is*
its canonical bytes: a function of the set of rows that were applied (`features.window_state`).
"""

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from features.spec import Spec
from features.update import EntityUpdates
from features.window_kernel import WRONG_ROWS, apply_rows, derive_plain, group_rows
from features.window_plan import Answers, Asked
from features.window_room import Room, join, no_updates, room_of, rows_of
from features.window_state import CORRUPT, OK, WRONG_DIGEST, WRONG_ENTITY, WRONG_FORMAT

SLOTS_PER_CALL = 1024

_NO_OWN = np.zeros((0, 1))
_NO_X = np.zeros((0, 0), dtype=np.float32)


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
    rows = rows_of(updates, len(blobs))
    slots = np.ascontiguousarray(slot, dtype=np.int64)
    assert group_rows(slots, rows), "a row that no parser can have let through"
    entity = np.zeros(len(blobs), dtype=np.int64)
    entity[slot] = updates.entity
    touched = np.flatnonzero(np.diff(rows.first))
    room = room_of(spec)
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
            join(before),
            offsets,
            some,
            entity,
            rows,
            out,
            ends,
            room.capacity,
        )
        if status != OK:
            check_status(spec, status, blobs, failed)
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
    room = room_of(spec)
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
    room = room_of(spec)
    late = np.empty(len(X), dtype=np.bool_)
    answers = Answers(np.empty(X.shape), late, room.terms, own, X)
    _derive(spec, room, blobs, slots, updates, at_ms, own_id, room.columns, answers)
    return late


def _derive(
    spec: Spec,
    room: Room,
    blobs: Sequence[bytes],
    slots: NDArray[np.int64],
    updates: EntityUpdates,
    at_ms: NDArray[np.int64],
    own_id: NDArray[np.uint64],
    columns: NDArray[np.int64],
    answers: Answers,
) -> None:
    places = np.empty((len(at_ms), len(columns)), dtype=np.int64)
    asked = Asked(join(blobs), slots, at_ms, own_id, columns, places)
    rows = rows_of(updates, len(blobs))
    status, failed = derive_plain(
        *room.plain, tuple(asked), tuple(rows), np.empty(len(updates), np.int64), tuple(answers)
    )
    if status != OK:
        check_status(spec, status, blobs, failed)


def warm_up(spec: Spec) -> None:
    """Compile everything (or load it from numba's disk cache), so that no caller waits later."""
    none = no_updates(spec)
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


def check_status(spec: Spec, status: int, blobs: Sequence[bytes], failed: int) -> NoReturn:
    """Raise what a kernel's status other than `OK` means.

    Raises:
        SchemaMismatch: State `failed` is of another spec, format or entity.
        StateCorrupt: Its bytes make no sense.
    """
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
