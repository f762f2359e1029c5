"""states, rows in log order → features right after each event: the kernel, walked offline.

What the worker and the scorer do over many calls, a backfill does in one: each row is applied to
its entity's unfolded state, and the windows are read at once. Nothing is folded between rows, and
there is no second implementation: rows are taken in and evaluated by `features.window_kernel`'s own
functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.spec import Spec
from features.spec_levels import ID_MASK
from features.update import EntityUpdates
from features.window import SLOTS_PER_CALL, check_status
from features.window_aggregates import evaluate
from features.window_jit import Bytes, Floats, Int, Ints, entered
from features.window_kernel import group_rows, take_in
from features.window_plan import Plan, Rows, Scratch, state_bytes_max
from features.window_room import join, room_of, rows_of
from features.window_state import CORRUPT, OK, load, save

APPLY: Final = 0  # the row counts; nothing is asked
ASK: Final = 1  # the row counts, and then it asks
PEEK: Final = 2  # the row asks as if it counted, and does not count (late, or a repeat)


@entered
def walk_rows(
    plan: Plan,
    scratch: Scratch,
    entity: Int,
    data: Bytes,
    offsets: Ints,
    first: Ints,
    rows: Rows,
    step: Bytes,
    answer: Ints,
    values: Floats,
    late: NDArray[np.bool_],
    out: Bytes,
    ends: Ints,
    aside: Bytes,
    state_bytes_max: Int,
) -> tuple[Int, Int]:
    """Walk each slot's rows in order; return (status, failed slot).

    Here every row is a "slot" of `rows` of its own, so that `take_in` takes one at a time;
    `first` says where in `rows.order` each entity's rows begin. `answer` is the row of `values`
    that a row fills. States are folded into `out` unless it has no room at all; `aside` holds one
    state while a row peeks. Both have room for a damaged state's excess, as in `apply_rows`.
    """
    pos = np.int64(0)
    for s in range(first.shape[0] - 1):
        status = load(plan, scratch, entity, data, offsets[s], offsets[s + 1])
        if status != OK:
            return status, s
        for k in range(first[s], first[s + 1]):
            i = rows.order[k]
            kept = np.int64(0)
            if step[i] == PEEK:
                kept = save(plan, scratch, entity, aside, np.int64(0))
                load(plan, scratch, entity, aside, np.int64(0), kept)
            take_in(plan, scratch, entity, k, rows)
            if step[i] != APPLY:
                own_id = np.int64(rows.ids[i] & np.uint64(ID_MASK))
                late[answer[i]] = evaluate(
                    plan, scratch, entity, rows.time_ms[i], own_id, values[answer[i]]
                )
            if step[i] == PEEK:
                load(plan, scratch, entity, aside, np.int64(0), kept)
        if out.shape[0] > 0:
            pos = save(plan, scratch, entity, out, pos)
            ends[s + 1] = pos
            if pos > (s + 1) * state_bytes_max:
                return CORRUPT, s
    return OK, -1


@dataclass(frozen=True, slots=True, eq=False)
class Walked:
    """What a walk saw, and where it ended.

    Attributes:
        values: float64, shape (asking rows, features of the entity), in the rows' order.
        late: bool, shape (asking rows,): as `features.window.evaluate_many` says.
        blobs: The states after the last rows; empty unless they were asked for.
    """

    values: NDArray[np.float64]
    late: NDArray[np.bool_]
    blobs: list[bytes]


def walk_many(
    spec: Spec,
    entity: int,
    blobs: Sequence[bytes],
    slot: NDArray[np.integer],
    updates: EntityUpdates,
    step: NDArray[np.uint8],
    *,
    keep: bool,
) -> Walked:
    """Apply rows one by one, and return the entity's features right after each that asks.

    Args:
        spec: What the states mean.
        entity: `EntitySpec.index` of all of them.
        blobs: One state for each slot; `b""` is an entity never seen.
        slot: Integers, shape (len(updates),): index into `blobs` for each row.
        updates: The rows in log order, all of this kind of entity.
        step: uint8, shape (len(updates),): `APPLY`, `ASK` or `PEEK`.
        keep: Whether to return the states.

    Raises:
        SchemaMismatch: A state is of another spec, format or entity.
        StateCorrupt: A state's bytes make no sense.
    """
    by_slot = rows_of(updates, len(blobs))
    slots = np.ascontiguousarray(slot, dtype=np.int64)
    assert group_rows(slots, by_slot), "a row that no parser can have let through"
    one_by_one = by_slot._replace(first=np.arange(len(updates) + 1, dtype=np.int64))
    asking = step != APPLY
    answer = np.cumsum(asking, dtype=np.int64) - 1
    values = np.full((int(np.count_nonzero(asking)), len(spec.entities[entity].features)), np.nan)
    late = np.zeros(len(values), dtype=np.bool_)
    capacity = state_bytes_max(spec, spec.entities[entity])
    room = room_of(spec)
    aside = np.empty(capacity + room.excess, dtype=np.uint8)
    out = np.empty(SLOTS_PER_CALL * capacity + room.excess if keep else 0, dtype=np.uint8)
    kept: list[bytes] = []
    for low in range(0, len(blobs), SLOTS_PER_CALL):
        some = blobs[low : low + SLOTS_PER_CALL]
        offsets = np.zeros(len(some) + 1, dtype=np.int64)
        np.cumsum([len(blob) for blob in some], out=offsets[1:])
        ends = np.zeros(len(some) + 1, dtype=np.int64)
        status, failed = walk_rows(
            room.plan,
            room.scratch,
            np.int64(entity),
            join(some),
            offsets,
            by_slot.first[low : low + len(some) + 1],
            one_by_one,
            np.ascontiguousarray(step, dtype=np.uint8),
            answer,
            values,
            late,
            out,
            ends,
            aside,
            capacity,
        )
        if status != OK:
            check_status(spec, status, some, int(failed))
        if keep:
            edges = ends.tolist()
            kept += [out[a:b].tobytes() for a, b in pairwise(edges)]
    return Walked(values, late, kept)
