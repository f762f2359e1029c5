"""many states and rows → many states, or features: the loops that are entered once per batch."""

import numpy as np
from numpy.typing import NDArray

from features.window_evaluate import evaluate, is_late
from features.window_insert import expire, insert, newest_of
from features.window_jit import Bytes, Floats, Int, Ints, compiled
from features.window_plan import FIELD, ID, TIME, VALUE, WEIGHT, Plan, Rows, Scratch
from features.window_state import CORRUPT, OK, load, save


@compiled
def take_in(plan: Plan, scratch: Scratch, entity: Int, slot: Int, rows: Rows) -> None:
    """Apply a slot's rows to the unfolded state."""
    begin = rows.first[slot]
    end = rows.first[slot + 1]
    newest = newest_of(scratch)
    for k in range(begin, end):
        newest = max(newest, rows.time_ms[rows.order[k]])
    expire(plan, scratch, entity, newest)
    row = scratch.row
    for k in range(begin, end):
        i = rows.order[k]
        row[TIME] = rows.time_ms[i]
        row[ID] = rows.ids[i]
        row[WEIGHT] = rows.weight[i]
        row[VALUE] = rows.value[i]
        for field in range(plan.shape[entity, 1]):
            row[FIELD + field] = rows.fields[i, field]
        insert(plan, scratch, entity, rows.series[i], row)


@compiled
def apply_rows(
    plan: Plan,
    scratch: Scratch,
    data: Bytes,
    offsets: Ints,
    slots: Ints,
    entity: Ints,
    rows: Rows,
    out: Bytes,
    ends: Ints,
    state_bytes_max: Int,
) -> tuple[Int, Int]:
    """Fold the new states of `slots` into `out`, end to end; return (status, failed slot).

    `out` has `state_bytes_max` for each slot, and room for a damaged state's excess behind.
    """
    pos = 0
    for i in range(slots.shape[0]):
        s = slots[i]
        status = load(plan, scratch, entity[s], data, offsets[i], offsets[i + 1])
        if status != OK:
            return status, s
        take_in(plan, scratch, entity[s], s, rows)
        pos = save(plan, scratch, entity[s], out, pos)
        ends[i + 1] = pos
        if pos > (i + 1) * state_bytes_max:
            return CORRUPT, s
    return OK, -1


@compiled
def derive_rows(
    plan: Plan,
    scratch: Scratch,
    data: Bytes,
    offsets: Ints,
    entity: Ints,
    rows: Rows,
    at_ms: Ints,
    own_id: Ints,
    out_row: Ints,
    out_column: Ints,
    out: Floats,
    late: NDArray[np.bool_],
) -> tuple[Int, Int]:
    """Write the features of each state, with its rows applied; return (status, failed slot)."""
    for s in range(entity.shape[0]):
        status = load(plan, scratch, entity[s], data, offsets[s], offsets[s + 1])
        if status != OK:
            return status, s
        if rows.first[s + 1] > rows.first[s]:
            take_in(plan, scratch, entity[s], s, rows)
        begin = out_column[s]
        width = plan.shape[entity[s], 2]
        features = out[out_row[s], begin : begin + width]
        evaluate(plan, scratch, entity[s], at_ms[s], own_id[s], features)
        late[s] = is_late(plan, scratch, entity[s], at_ms[s])
    return OK, -1
