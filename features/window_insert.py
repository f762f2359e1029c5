"""unfolded state, row → unfolded state: expiry, the sorted head, and the tiles behind it."""

import numpy as np

from features.spec_levels import (
    COUNT,
    DISTINCT_SHIFT,
    FRAUDS,
    LABELS,
    MAX,
    MIN,
    SQUARES_HIGH,
    SQUARES_LOW,
    SUM,
)
from features.window_codec import REGISTERS
from features.window_jit import Bytes, Int, Ints, compiled
from features.window_plan import FIELD, ID, TIME, VALUE, WEIGHT, Plan, Scratch
from features.window_state import EVENTS, bits_of

LIMB_BITS = 48
LIMB_MASK = (1 << LIMB_BITS) - 1
HALF_BITS = 24
HALF_MASK = (1 << HALF_BITS) - 1


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
    levels = plan.shape[entity, 0]
    lowest = np.int64(newest)
    for level in range(levels):
        tile_ms = plan.levels[entity, 1, level]
        cutoff = (newest - plan.levels[entity, 0, level] - plan.limits[2] + 1) // tile_ms
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
def insert(plan: Plan, scratch: Scratch, entity: Int, series: Int, row: Ints) -> None:
    """Add one row (laid out as a head is); nothing changes if the head has it, or none keeps it.

    `expire` must have been told of this row's time.
    """
    at_ms = row[TIME]
    if at_ms < scratch.cutoff[plan.shape[entity, 0]]:
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
    rows = head.shape[0]
    if end - start == plan.limits[series]:
        if at == start:
            add_to_tiles(plan, scratch, entity, series, row)
            return
        add_to_tiles(plan, scratch, entity, series, head[:, start])
        start += 1
    if end == head.shape[1]:
        for column in range(rows):
            for i in range(start, end):
                head[column, i - start] = head[column, i]
        at -= start
        end -= start
        start = 0
    for column in range(rows):
        for i in range(end, at, -1):
            head[column, i] = head[column, i - 1]
        head[column, at] = row[column]
    scratch.span[series, 0] = start
    scratch.span[series, 1] = end + 1


@compiled
def add_to_tiles(plan: Plan, scratch: Scratch, entity: Int, series: Int, row: Ints) -> None:
    """Add one row to the tile of each level that keeps it."""
    for level in range(plan.shape[entity, 0]):
        columns = plan.levels[entity, 2, level]
        number = row[TIME] // plan.levels[entity, 1, level]
        if columns & bits_of(series) == 0 or number < scratch.cutoff[level]:
            continue
        at = find_tile(plan, scratch, entity, level, series, number)
        tile = scratch.tiles[level, :, at]
        if series == EVENTS:
            add_event(tile, row[VALUE])
            for field in range(plan.shape[entity, 1]):
                if columns >> (DISTINCT_SHIFT + field) & 1:
                    add_to_registers(scratch.registers[level, field, at], row[FIELD + field])
        else:
            tile[LABELS] += row[WEIGHT]
            tile[FRAUDS] += row[VALUE]


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
        for field in range(plan.shape[entity, 1]):
            registers = scratch.registers[level, field]
            for i in range(end, at, -1):
                for r in range(REGISTERS):
                    registers[i, r] = registers[i - 1, r]
            for r in range(REGISTERS):
                registers[at, r] = 0
    scratch.used[level, series, 1] = end + 1
    return at


@compiled
def add_event(tile: Ints, value: Int) -> None:
    """Add one amount to the columns of a tile, or of a running sum."""
    if tile[COUNT] == 0:
        tile[MIN] = value
        tile[MAX] = value
    else:
        tile[MIN] = min(tile[MIN], value)
        tile[MAX] = max(tile[MAX], value)
    tile[COUNT] += 1
    tile[SUM] += value
    size = abs(value)
    high = size >> HALF_BITS
    low = size & HALF_MASK
    cross = 2 * high * low
    limb = tile[SQUARES_LOW] + ((cross & HALF_MASK) << HALF_BITS) + low * low
    tile[SQUARES_LOW] = limb & LIMB_MASK
    tile[SQUARES_HIGH] += high * high + (cross >> HALF_BITS) + (limb >> LIMB_BITS)


@compiled
def add_to_registers(registers: Bytes, hashed: Int) -> None:
    """Add one 32-bit hash to 64 HyperLogLog registers; 0 is absent.

    The low 6 bits choose the register; its value is the position of the first one among the
    other 26 bits, from the top (27 if there is none).
    """
    if hashed == 0:
        return
    rest = hashed >> 6
    rank = 27
    while rest != 0:
        rest >>= 1
        rank -= 1
    register = hashed & 63
    registers[register] = max(registers[register], rank)
