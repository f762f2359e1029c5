"""unfolded state, instant → what each window adds up to: one pass backwards over the head.

A window of w at time t covers (t - w, t]. Rows of the head count exactly. Where the whole head lies
in the window, a tile i behind it counts as a whole iff (t - w + 1) // tile ≤ i ≤ t // tile. Levels
stand sorted by filter; each filter in use takes one pass.
"""

import numpy as np

from features.spec_levels import (
    BASE_VALUE_MAX,
    COUNT,
    DISTINCT_SHIFT,
    FIRST,
    FRAUDS,
    LABELS,
    LAST,
    MAX,
    MIN,
    SQUARES_HIGH,
    SQUARES_LOW,
    SUM,
)
from features.window_insert import LIMB_BITS, LIMB_MASK, newest_of, square
from features.window_jit import Int, compiled
from features.window_plan import (
    COLUMN_BITS,
    EVENTS,
    FIELD,
    FILTER,
    FILTERS,
    ID,
    LABELS_SERIES,
    N_FIELDS,
    N_LEVELS,
    SQUARES,
    TILE,
    TILED,
    TIME,
    VALUE,
    WEIGHT,
    WINDOW,
    Plan,
    Scratch,
)
from features.window_registers import REGISTERS, add_to_registers, merge


@compiled
def is_late(plan: Plan, scratch: Scratch, entity: Int, at_ms: Int, before: Int) -> bool:
    """Return whether rows that the question needs may be forgotten, or stand in tiles alone.

    Args:
        plan: Of the spec.
        scratch: The state.
        entity: Whose.
        at_ms: The question's instant.
        before: Place in the head of the newest event, other than the asking one, at or before
            that instant; -1 if there is none.
    """
    if at_ms < newest_of(scratch) - plan.limits[2]:
        return True
    labels_start = scratch.heads[LABELS_SERIES, TIME, scratch.span[LABELS_SERIES, 0]]
    for level in range(plan.shape[entity, N_LEVELS]):
        if before < 0 and scratch.used[level, EVENTS, 1] > scratch.used[level, EVENTS, 0]:
            return True
        labels = scratch.used[level, LABELS_SERIES]
        if labels[1] > labels[0] and at_ms < labels_start:
            return True
    return False


@compiled
def find_newest(scratch: Scratch, at_ms: Int, own_id: Int, wanted: Int) -> Int:
    """Return the place in the head of the newest event at or before `at_ms`, or -1.

    The event of that very time and of this id (the asking one) does not count, nor do those that
    do not meet the filter `wanted` (if it is one).
    """
    head = scratch.heads[EVENTS]
    for i in range(scratch.span[EVENTS, 1] - 1, scratch.span[EVENTS, 0] - 1, -1):
        t = head[TIME, i]
        if t > at_ms or (t == at_ms and head[ID, i] == own_id):
            continue
        if wanted < 0 or head[FILTERS, i] >> wanted & 1:
            return i
    return -1


@compiled
def find_own(scratch: Scratch, at_ms: Int, own_id: Int) -> Int:
    """Return the place in the head of the asking event, or -1."""
    head = scratch.heads[EVENTS]
    for i in range(scratch.span[EVENTS, 1] - 1, scratch.span[EVENTS, 0] - 1, -1):
        if head[TIME, i] < at_ms:
            return -1
        if head[TIME, i] == at_ms and head[ID, i] == own_id:
            return i
    return -1


@compiled
def add_up(plan: Plan, scratch: Scratch, entity: Int, at_ms: Int) -> None:
    """Write what every window adds up to into `sums`, `distinct` and `union`."""
    levels = plan.shape[entity, N_LEVELS]
    begin = 0
    while begin < levels:
        wanted = plan.levels[entity, FILTER, begin]
        end = begin + 1
        while end < levels and plan.levels[entity, FILTER, end] == wanted:
            end += 1
        add_head_events(plan, scratch, entity, at_ms, begin, end)
        for field in range(plan.shape[entity, N_FIELDS]):
            add_distinct(plan, scratch, entity, at_ms, begin, end, field)
        if wanted < 0:
            add_head_labels(plan, scratch, entity, at_ms, end)
        begin = end
    for level in range(levels):
        for series in range(2):
            if scratch.used[level, series, 1] > scratch.used[level, series, 0]:
                add_tiles(plan, scratch, entity, level, series, at_ms)


@compiled
def add_head_events(
    plan: Plan, scratch: Scratch, entity: Int, at_ms: Int, begin: Int, end: Int
) -> None:
    """Sum the head's events into the levels of one filter, newest first, each row once."""
    times = scratch.heads[EVENTS, TIME]
    values = scratch.heads[EVENTS, VALUE]
    filters = scratch.heads[EVENTS, FILTERS]
    wanted = plan.levels[entity, FILTER, begin]
    squares = plan.shape[entity, SQUARES] != 0
    start = scratch.span[EVENTS, 0]
    i = scratch.span[EVENTS, 1] - 1
    while i >= start and times[i] > at_ms:
        i -= 1
    count = np.int64(0)
    total = np.int64(0)
    high = np.int64(0)
    low = np.int64(0)
    least = np.int64(BASE_VALUE_MAX)
    most = np.int64(-BASE_VALUE_MAX)
    oldest = np.int64(0)
    for level in range(begin, end):
        edge = at_ms - plan.levels[entity, WINDOW, level]
        while i >= start and times[i] > edge:
            if wanted < 0 or filters[i] >> wanted & 1:
                value = values[i]
                count += 1
                total += value
                least = min(least, value)
                most = max(most, value)
                oldest = value
                if squares:
                    high, low = square(value, high, low)
            i -= 1
        sums = scratch.sums[level]
        sums[COUNT] = count
        sums[SUM] = total
        sums[SQUARES_HIGH] = high
        sums[SQUARES_LOW] = low
        sums[MIN] = least
        sums[MAX] = most
        sums[FIRST] = oldest
        sums[TILED] = 0


@compiled
def add_distinct(
    plan: Plan, scratch: Scratch, entity: Int, at_ms: Int, begin: Int, end: Int, field: Int
) -> None:
    """Count a field's different values in the levels of one filter; none is 0 in the head."""
    bit = DISTINCT_SHIFT + field
    while end > begin and not plan.levels[entity, COLUMN_BITS, end - 1] >> bit & 1:
        end -= 1
    if end == begin:
        return
    times = scratch.heads[EVENTS, TIME]
    entries = scratch.heads[EVENTS, FIELD + field]
    filters = scratch.heads[EVENTS, FILTERS]
    wanted = plan.levels[entity, FILTER, begin]
    seen = scratch.seen
    start = scratch.span[EVENTS, 0]
    i = scratch.span[EVENTS, 1] - 1
    while i >= start and times[i] > at_ms:
        i -= 1
    scratch.stamp[0] += 1
    stamp = scratch.stamp[0]
    tiled = scratch.span[EVENTS, 1] - start == plan.limits[EVENTS]
    union = scratch.union[plan.shape[entity, N_LEVELS], field]
    if tiled:
        for r in range(REGISTERS):
            union[r] = 0
    number = np.int64(0)
    for level in range(begin, end):
        edge = at_ms - plan.levels[entity, WINDOW, level]
        while i >= start and times[i] > edge:
            entry = entries[i]
            counts = True if wanted < 0 else filters[i] >> wanted & 1 != 0
            new = (entry != 0) & (seen[entry] != stamp) & counts
            number += new  # no branch: whether a value is new cannot be predicted
            seen[entry] = stamp if counts else seen[entry]
            if tiled:  # again does no harm, and need not be asked
                add_to_registers(union, scratch.words[field, entry] if counts else 0)
            i -= 1
        scratch.distinct[level, field] = number
        if tiled:
            for r in range(REGISTERS):
                scratch.union[level, field, r] = union[r]


@compiled
def add_head_labels(plan: Plan, scratch: Scratch, entity: Int, at_ms: Int, end: Int) -> None:
    """Sum the head's labels into the levels before `end`, newest first."""
    head = scratch.heads[LABELS_SERIES]
    labels = np.int64(0)
    frauds = np.int64(0)
    i = scratch.span[LABELS_SERIES, 1] - 1
    start = scratch.span[LABELS_SERIES, 0]
    for level in range(end):
        edge = at_ms - plan.levels[entity, WINDOW, level]
        while i >= start and head[TIME, i] > edge:
            if head[TIME, i] <= at_ms:
                labels += head[WEIGHT, i]
                frauds += head[VALUE, i]
            i -= 1
        scratch.sums[level, LABELS] = labels
        scratch.sums[level, FRAUDS] = frauds


@compiled
def range_of_tiles(
    plan: Plan, scratch: Scratch, entity: Int, level: Int, series: Int, at_ms: Int
) -> tuple[Int, Int]:
    """Return where the tiles that count in a window begin and end.

    Tiles hold what is older than all of the head; where a row of the head already lies before the
    window, none counts.
    """
    start = scratch.used[level, series, 0]
    end = scratch.used[level, series, 1]
    edge = at_ms - plan.levels[entity, WINDOW, level]
    if start == end or scratch.heads[series, TIME, scratch.span[series, 0]] <= edge:
        return end, end
    numbers = scratch.numbers[level, series]
    tile_ms = plan.levels[entity, TILE, level]
    low = (edge + 1) // tile_ms
    high = at_ms // tile_ms
    while start < end and numbers[start] < low:
        start += 1
    while end > start and numbers[end - 1] > high:
        end -= 1
    return start, end


@compiled
def add_tiles(
    plan: Plan, scratch: Scratch, entity: Int, level: Int, series: Int, at_ms: Int
) -> None:
    """Add the tiles that count in the window to its sums, and their registers to its union."""
    begin, end = range_of_tiles(plan, scratch, entity, level, series, at_ms)
    sums = scratch.sums[level]
    tiles = scratch.tiles[level]
    if series == LABELS_SERIES:
        for i in range(begin, end):
            sums[LABELS] += tiles[LABELS, i]
            sums[FRAUDS] += tiles[FRAUDS, i]
        return
    if begin == end:
        return
    sums[TILED] = 1
    sums[FIRST] = tiles[FIRST, begin]
    sums[LAST] = tiles[LAST, end - 1]
    columns = plan.levels[entity, COLUMN_BITS, level]
    for i in range(begin, end):
        sums[MIN] = min(sums[MIN], tiles[MIN, i])
        sums[MAX] = max(sums[MAX], tiles[MAX, i])
        sums[COUNT] += tiles[COUNT, i]
        sums[SUM] += tiles[SUM, i]
        limb = sums[SQUARES_LOW] + tiles[SQUARES_LOW, i]
        sums[SQUARES_LOW] = limb & LIMB_MASK
        sums[SQUARES_HIGH] += tiles[SQUARES_HIGH, i] + (limb >> LIMB_BITS)
        for field in range(plan.shape[entity, N_FIELDS]):
            if columns >> (DISTINCT_SHIFT + field) & 1:
                merge(scratch.union[level, field], scratch.registers[level, field, i])
