"""many states and rows → many states, or features: the loops that are entered once per batch."""

import math
from typing import Any, TypeAlias

import numpy as np

from features.spec_levels import BASE_VALUE_MAX, ID_MASK, TIME_BYTES
from features.window_aggregates import evaluate
from features.window_insert import ARRIVING, expire, index_fields, insert, newest_of
from features.window_jit import Bytes, Int, Ints, compiled, entered
from features.window_plan import (
    FIELD,
    FILTER_BITS,
    FILTERS,
    ID,
    N_FEATURES,
    N_FIELDS,
    TIME,
    VALUE,
    WEIGHT,
    Answers,
    Asked,
    Plan,
    Rows,
    Scratch,
)
from features.window_state import CORRUPT, OK, load, save
from features.window_terms import add_terms

Plain: TypeAlias = tuple[Any, ...]
WRONG_ROWS = CORRUPT + 1  # one without a state, or out of the range that the kernel counts on
TIME_MAX = 1 << (8 * TIME_BYTES - 1)


@entered
def group_rows(slot: Ints, rows: Rows) -> bool:
    """Sort the rows by slot, those of one slot staying in their order: `order` and `first`.

    Returns whether all rows are such as the kernel counts on, which every parser sees to.
    """
    first = rows.first
    for s in range(first.shape[0]):
        first[s] = 0
    for i in range(slot.shape[0]):
        if not 0 <= slot[i] < first.shape[0] - 1 or rows.series[i] > 1:
            return False
        if not 0 <= rows.time_ms[i] < TIME_MAX or abs(rows.value[i]) > BASE_VALUE_MAX:
            return False
        first[slot[i] + 1] += 1
    for s in range(first.shape[0] - 1):
        first[s + 1] += first[s]
    for i in range(slot.shape[0]):
        rows.order[first[slot[i]]] = i
        first[slot[i]] += 1
    for s in range(first.shape[0] - 1, 0, -1):
        first[s] = first[s - 1]
    first[0] = 0
    return True


@compiled
def take_in(plan: Plan, scratch: Scratch, entity: Int, slot: Int, rows: Rows) -> None:
    """Apply a slot's rows to the unfolded state."""
    begin = rows.first[slot]
    end = rows.first[slot + 1]
    newest = newest_of(scratch)
    for k in range(begin, end):
        newest = max(newest, rows.time_ms[rows.order[k]])
    expire(plan, scratch, entity, newest)
    index_fields(plan, scratch, entity)
    row = scratch.row[ARRIVING]
    used = plan.shape[entity, FILTER_BITS]
    for k in range(begin, end):
        i = rows.order[k]
        row[TIME] = rows.time_ms[i]
        row[ID] = np.int64(rows.ids[i] & np.uint64(ID_MASK))
        row[WEIGHT] = rows.weight[i]
        row[VALUE] = rows.value[i]
        row[FILTERS] = np.int64(rows.filters[i]) & used
        for field in range(plan.shape[entity, N_FIELDS]):
            row[FIELD + field] = rows.fields[i, field]
        insert(plan, scratch, entity, np.int64(rows.series[i]))


@entered
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
    pos = np.int64(0)
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
def place_rows(asked: Asked, rows: Rows, slot: Ints) -> bool:
    """Write each row's slot into `slot`; return whether every row has one."""
    places = asked.places
    for q in range(places.shape[0]):
        for e in range(places.shape[1]):
            places[q, e] = -1
    for s in range(asked.slots.shape[0]):
        places[asked.slots[s, 1], asked.slots[s, 0]] = s
    for i in range(slot.shape[0]):
        found = places[rows.event[i], rows.entity[i]]
        if found < 0:
            return False
        slot[i] = found
    return True


@entered
def derive_plain(
    plan: Plain, scratch: Plain, asked: Plain, rows: Plain, slot: Ints, answers: Plain
) -> tuple[Int, Int]:
    """Do what `derive_rows` does, given plain tuples of the fields of its arguments.

    Tuples with names take 5 µs more to be handed over, a fifth of what one question takes alone.
    """
    return derive_rows(
        Plan(*plan), Scratch(*scratch), Asked(*asked), Rows(*rows), slot, Answers(*answers)
    )


@compiled
def derive_rows(
    plan: Plan, scratch: Scratch, asked: Asked, rows: Rows, slot: Ints, answers: Answers
) -> tuple[Int, Int]:
    """Answer the questions, rows applied to copies; return (status, failed slot).

    `slot` is room for as many numbers as there are rows.
    """
    if not (place_rows(asked, rows, slot) and group_rows(slot, rows)):
        return WRONG_ROWS, 0
    values = answers.values
    for q in range(values.shape[0]):
        answers.late[q] = False
        for j in range(values.shape[1]):
            values[q, j] = math.nan
    end = np.int64(0)
    for s in range(asked.slots.shape[0]):
        entity = asked.slots[s, 0]
        q = asked.slots[s, 1]
        begin = end
        end += asked.slots[s, 2]
        status = load(plan, scratch, entity, asked.data, begin, end)
        if status != OK:
            return status, s
        if rows.first[s + 1] > rows.first[s]:
            take_in(plan, scratch, entity, s, rows)
        column = asked.columns[entity]
        features = values[q, column : column + plan.shape[entity, N_FEATURES]]
        own_id = np.int64(asked.own_id[q] & np.uint64(ID_MASK))
        if evaluate(plan, scratch, entity, asked.at_ms[q], own_id, features):
            answers.late[q] = True
    X = answers.X
    for q in range(X.shape[0]):
        add_terms(answers.terms, answers.own[q], asked.at_ms[q], values[q])
        for j in range(X.shape[1]):
            X[q, j] = values[q, j]
    return OK, -1
