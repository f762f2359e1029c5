"""unfolded state, row → unfolded state: expiry, the sorted head, and the tiles behind it."""

import numpy as np

from features.spec_levels import (
    COUNT,
    DISTINCT_SHIFT,
    FIRST,
    FIRST_ID,
    FIRST_TIME,
    FRAUDS,
    LABELS,
    LAST,
    LAST_ID,
    LAST_TIME,
    MAX,
    MIN,
    SQUARES_HIGH,
    SQUARES_LOW,
    SUM,
)
from features.window_fields import entry_of, index_words, renumber
from features.window_jit import Int, Ints, compiled
from features.window_plan import (
    COLUMN_BITS,
    EVENTS,
    FIELD,
    FILTER,
    FILTERS,
    ID,
    N_FIELDS,
    N_LEVELS,
    TILE,
    TIME,
    VALUE,
    WEIGHT,
    WINDOW,
    Plan,
    Scratch,
)
from features.window_registers import REGISTERS, add_to_registers
from features.window_state import bits_of

LIMB_BITS = 48
LIMB_MASK = (1 << LIMB_BITS) - 1
HALF_LIMB_BITS = 24
HALF_LIMB_MASK = (1 << HALF_LIMB_BITS) - 1
ARRIVING, LEAVING = 0, 1  # rows of `Scratch.row`


@compiled
def newest_of(scratch: Scratch) -> Int:
    """Return the largest time in the state, or -1 for an empty one."""
    newest = np.int64(-1)
    for series in range(2):
        end = scratch.span[series, 1]
        if end > scratch.span[series, 0]:
            newest = max(newest, scratch.heads[series, TIME, end - 1])
    return newest


@compiled
def expire(plan: Plan, scratch: Scratch, entity: Int, newest: Int) -> None:
    """Set the cutoffs that follow from `newest`, and forget what no level keeps."""
    levels = plan.shape[entity, N_LEVELS]
    lowest = np.int64(newest)
    for level in range(levels):
        tile_ms = plan.levels[entity, TILE, level]
        cutoff = (newest - plan.levels[entity, WINDOW, level] - plan.limits[2] + 1) // tile_ms
        scratch.cutoff[level] = cutoff
        lowest = min(lowest, cutoff * tile_ms)
        for series in range(2):
            start = scratch.used[level, series, 0]
            end = scratch.used[level, series, 1]
            while start < end and scratch.numbers[level, series, start] < cutoff:
                start += 1
            scratch.used[level, series, 0] = start
    scratch.cutoff[levels] = lowest
    for series in range(2):
        start = scratch.span[series, 0]
        end = scratch.span[series, 1]
        while start < end and scratch.heads[series, TIME, start] < lowest:
            start += 1
        scratch.span[series, 0] = start


@compiled
def index_fields(plan: Plan, scratch: Scratch, entity: Int) -> None:
    """Make the values of all fields known by hash, under the newest stamp."""
    scratch.stamp[0] += 1
    for field in range(plan.shape[entity, N_FIELDS]):
        index_words(scratch, field, scratch.stamp[0])


@compiled
def insert(plan: Plan, scratch: Scratch, entity: Int, series: Int) -> None:
    """Add the arriving row; nothing changes if the head has it, or no level keeps it.

    `expire` must have been told of this row's time, and `index_fields` have run.
    """
    row = scratch.row[ARRIVING]
    at_ms = row[TIME]
    if at_ms < scratch.cutoff[plan.shape[entity, N_LEVELS]]:
        return
    head = scratch.heads[series]
    start = scratch.span[series, 0]
    end = scratch.span[series, 1]
    at = end
    while at > start and (
        head[TIME, at - 1] > at_ms or (head[TIME, at - 1] == at_ms and head[ID, at - 1] > row[ID])
    ):
        at -= 1
    if at > start and head[TIME, at - 1] == at_ms and head[ID, at - 1] == row[ID]:
        return
    fields = plan.shape[entity, N_FIELDS] if series == EVENTS else 0
    if end - start == plan.limits[series]:
        if at == start:
            add_to_tiles(plan, scratch, entity, series, row)
            return
        gone = scratch.row[LEAVING]
        for column in range(FIELD):
            gone[column] = head[column, start]
        for field in range(fields):
            gone[FIELD + field] = scratch.words[field, head[FIELD + field, start]]
        add_to_tiles(plan, scratch, entity, series, gone)
        start += 1
    if end == head.shape[1]:
        pack(plan, scratch, entity, series, start, end)
        at -= start
        end -= start
        start = 0
    for column in range(FIELD + fields):
        for i in range(end, at, -1):
            head[column, i] = head[column, i - 1]
    for column in range(FIELD):
        head[column, at] = row[column]
    for field in range(fields):
        entry = entry_of(scratch, field, scratch.stamp[0], row[FIELD + field])
        head[FIELD + field, at] = entry
    scratch.span[series, 0] = start
    scratch.span[series, 1] = end + 1


@compiled
def pack(plan: Plan, scratch: Scratch, entity: Int, series: Int, start: Int, end: Int) -> None:
    """Move a head to the front of its room, and forget the field values that have left it."""
    head = scratch.heads[series]
    for column in range(head.shape[0]):
        for i in range(start, end):
            head[column, i - start] = head[column, i]
    if series == EVENTS:
        for field in range(plan.shape[entity, N_FIELDS]):
            renumber(scratch, field, 0, end - start)
        index_fields(plan, scratch, entity)


@compiled
def add_to_tiles(plan: Plan, scratch: Scratch, entity: Int, series: Int, row: Ints) -> None:
    """Add one row to the tile of each level that keeps it and counts it."""
    for level in range(plan.shape[entity, N_LEVELS]):
        columns = plan.levels[entity, COLUMN_BITS, level]
        tile_ms = plan.levels[entity, TILE, level]
        number = row[TIME] // tile_ms
        if columns & bits_of(series) == 0 or number < scratch.cutoff[level]:
            continue
        tiles = scratch.tiles[level]
        if series != EVENTS:
            at = find_tile(plan, scratch, entity, level, series, number)
            tiles[LABELS, at] += row[WEIGHT]
            tiles[FRAUDS, at] += row[VALUE]
            continue
        wanted = plan.levels[entity, FILTER, level]
        if wanted >= 0 and not row[FILTERS] >> wanted & 1:
            continue
        at = find_tile(plan, scratch, entity, level, series, number)
        add_ends(tiles, at, row[TIME] - number * tile_ms, row[ID], row[VALUE])
        add_event(tiles, at, row[VALUE])
        for field in range(plan.shape[entity, N_FIELDS]):
            if columns >> (DISTINCT_SHIFT + field) & 1:
                add_to_registers(scratch.registers[level, field, at], row[FIELD + field])


@compiled
def find_tile(
    plan: Plan, scratch: Scratch, entity: Int, level: Int, series: Int, number: Int
) -> Int:
    """Return where a tile stands; an empty one is put in its place if there is none yet."""
    index = scratch.numbers[level, series]
    start = scratch.used[level, series, 0]
    end = scratch.used[level, series, 1]
    at = end
    while at > start and index[at - 1] >= number:
        at -= 1
    if at < end and index[at] == number:
        return at
    for i in range(end, at, -1):
        index[i] = index[i - 1]
    index[at] = number
    bits = bits_of(series)
    for column in range(scratch.tiles.shape[1]):
        if bits >> column & 1:
            for i in range(end, at, -1):
                scratch.tiles[level, column, i] = scratch.tiles[level, column, i - 1]
            scratch.tiles[level, column, at] = 0
    if series == EVENTS:
        for field in range(plan.shape[entity, N_FIELDS]):
            if plan.levels[entity, COLUMN_BITS, level] >> (DISTINCT_SHIFT + field) & 1:
                registers = scratch.registers[level, field]
                for i in range(end, at, -1):
                    for r in range(REGISTERS):
                        registers[i, r] = registers[i - 1, r]
                for r in range(REGISTERS):
                    registers[at, r] = 0
    scratch.used[level, series, 1] = end + 1
    return at


@compiled
def add_ends(tiles: Ints, at: Int, offset: Int, row_id: Int, value: Int) -> None:
    """Keep a row as the tile's first or last by (time, id), if it is; before `add_event`."""
    alone = tiles[COUNT, at] == 0
    first = tiles[FIRST_TIME, at]
    if alone or offset < first or (offset == first and row_id < tiles[FIRST_ID, at]):
        tiles[FIRST_TIME, at] = offset
        tiles[FIRST_ID, at] = row_id
        tiles[FIRST, at] = value
    last = tiles[LAST_TIME, at]
    if alone or offset > last or (offset == last and row_id > tiles[LAST_ID, at]):
        tiles[LAST_TIME, at] = offset
        tiles[LAST_ID, at] = row_id
        tiles[LAST, at] = value


@compiled
def add_event(tiles: Ints, at: Int, value: Int) -> None:
    """Add one amount to a tile."""
    if tiles[COUNT, at] == 0:
        tiles[MIN, at] = value
        tiles[MAX, at] = value
    else:
        tiles[MIN, at] = min(tiles[MIN, at], value)
        tiles[MAX, at] = max(tiles[MAX, at], value)
    tiles[COUNT, at] += 1
    tiles[SUM, at] += value
    high, low = square(value, tiles[SQUARES_HIGH, at], tiles[SQUARES_LOW, at])
    tiles[SQUARES_HIGH, at] = high
    tiles[SQUARES_LOW, at] = low


@compiled
def square(value: Int, high: Int, low: Int) -> tuple[Int, Int]:
    """Return a sum of squares, in two limbs, with that of `value` added."""
    size = abs(value)
    upper = size >> HALF_LIMB_BITS
    lower = size & HALF_LIMB_MASK
    cross = 2 * upper * lower
    limb = low + ((cross & HALF_LIMB_MASK) << HALF_LIMB_BITS) + lower * lower
    return high + upper * upper + (cross >> HALF_LIMB_BITS) + (limb >> LIMB_BITS), limb & LIMB_MASK
