"""unfolded state, instant → features: every window in one pass backwards over the head.

A window of w at time t covers (t - w, t]. Rows of the head count exactly; a tile i counts as a
whole iff (t - w + 1) // tile ≤ i ≤ t // tile. Standard deviations are of the population.
"""

import math

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
from features.window_codec import REGISTERS, find_slot
from features.window_insert import (
    HALF_BITS,
    HALF_MASK,
    LIMB_BITS,
    LIMB_MASK,
    add_event,
    add_to_registers,
    newest_of,
)
from features.window_jit import Bytes, Floats, Int, Ints, compiled
from features.window_plan import FIELD, ID, TIME, VALUE, WEIGHT, Plan, Scratch
from features.window_state import EVENTS, LABELS_SERIES

LIMB = float(1 << LIMB_BITS)
HLL_ALPHA = 0.709  # Flajolet et al. 2007, for 64 registers
COUNT_OF, SUM_OF, MEAN, STD, MIN_OF, MAX_OF, DISTINCT, SINCE_LAST, N_LABELS, N_FRAUDS, RATE = range(
    11
)


@compiled
def is_late(plan: Plan, scratch: Scratch, entity: Int, at_ms: Int) -> bool:
    """Return whether rows that the question needs may be forgotten, or stand in later tiles."""
    if at_ms < newest_of(scratch) - plan.limits[2]:
        return True
    for series in range(2):
        start = scratch.span[series, 0]
        for level in range(plan.shape[entity, 0]):
            if (
                scratch.used[level, series, 1] > scratch.used[level, series, 0]
                and at_ms < scratch.heads[series, TIME, start]
            ):
                return True
    return False


@compiled
def evaluate(
    plan: Plan, scratch: Scratch, entity: Int, at_ms: Int, own_id: Int, out: Floats
) -> None:
    """Write the entity's features at `at_ms` into `out`, NaN where there is nothing to tell."""
    add_head_events(plan, scratch, entity, at_ms)
    add_head_labels(plan, scratch, entity, at_ms)
    for level in range(plan.shape[entity, 0]):
        for series in range(2):
            add_tiles(plan, scratch, entity, level, series, at_ms)
    for j in range(plan.shape[entity, 2]):
        aggregate = plan.features[entity, 0, j]
        level = plan.features[entity, 1, j]
        field = plan.features[entity, 2, j]
        if aggregate == SINCE_LAST:
            out[j] = since_last(scratch, at_ms, own_id)
        elif aggregate == DISTINCT:
            out[j] = count_distinct(plan, scratch, entity, level, field, at_ms)
        else:
            out[j] = finish(scratch.sums[level], aggregate)


@compiled
def finish(sums: Ints, aggregate: Int) -> float:
    """Return an aggregate of a window's sums; NaN for what an empty window does not have."""
    n = sums[COUNT]
    result = math.nan
    if aggregate == COUNT_OF:
        result = float(n)
    elif aggregate == SUM_OF:
        result = float(sums[SUM])
    elif aggregate == N_LABELS:
        result = float(sums[LABELS])
    elif aggregate == N_FRAUDS:
        result = float(sums[FRAUDS])
    elif aggregate == RATE:
        if sums[LABELS] > 0:
            result = float(sums[FRAUDS]) / float(sums[LABELS])
    elif n > 0:
        if aggregate == MEAN:
            result = float(sums[SUM]) / float(n)
        elif aggregate == MIN_OF:
            result = float(sums[MIN])
        elif aggregate == MAX_OF:
            result = float(sums[MAX])
        else:
            result = deviation(n, sums[SUM], sums[SQUARES_HIGH], sums[SQUARES_LOW])
    return result


@compiled
def deviation(n: Int, total: Int, squares_high: Int, squares_low: Int) -> float:
    """Return the population standard deviation, from integers without cancellation.

    With m = total // n and r = total - m·n, the sum of squares about m is, exactly,
    squares - m·(total + r); the variance is that sum over n, less (r / n)².
    """
    m = total // n
    r = total - m * n
    other = total + r
    a = abs(m)
    b = abs(other)
    a0 = a & HALF_MASK
    a1 = a >> HALF_BITS
    b0 = b & HALF_MASK
    b1 = (b >> HALF_BITS) & HALF_MASK
    b2 = b >> LIMB_BITS
    cross = a0 * b1 + a1 * b0
    low = a0 * b0 + ((cross & HALF_MASK) << HALF_BITS)
    high = a0 * b2 + a1 * b1 + (cross >> HALF_BITS) + ((a1 * b2) << HALF_BITS) + (low >> LIMB_BITS)
    low &= LIMB_MASK
    if (m < 0) != (other < 0):
        high = -high
        low = -low
    about = float(squares_high - high) * LIMB + float(squares_low - low)
    rest = float(r) / float(n)
    return math.sqrt(max(0.0, about / float(n) - rest * rest))


@compiled
def snapshot(plan: Plan, scratch: Scratch, entity: Int, level: Int) -> None:
    """Keep what the head's events add up to at the far edge of a level's window."""
    last = plan.shape[entity, 0]
    for column in range(LABELS):
        scratch.sums[level, column] = scratch.running[column]
    tiled = scratch.used[level, EVENTS, 1] > scratch.used[level, EVENTS, 0]
    for field in range(plan.shape[entity, 1]):
        scratch.distinct[level, field] = scratch.distinct[last, field]
        if tiled:
            for r in range(REGISTERS):
                scratch.union[level, field, r] = scratch.union[last, field, r]


@compiled
def add_head_events(plan: Plan, scratch: Scratch, entity: Int, at_ms: Int) -> None:
    """Sum the head's events into every level, newest first, each row once."""
    levels = plan.shape[entity, 0]
    fields = plan.shape[entity, 1]
    head = scratch.heads[EVENTS]
    for column in range(LABELS):
        scratch.running[column] = 0
    for field in range(fields):
        scratch.distinct[levels, field] = 0
        for r in range(REGISTERS):
            scratch.union[levels, field, r] = 0
    scratch.stamp[0] += 1
    tiled = scratch.span[EVENTS, 1] - scratch.span[EVENTS, 0] == plan.limits[EVENTS]
    level = 0
    for i in range(scratch.span[EVENTS, 1] - 1, scratch.span[EVENTS, 0] - 1, -1):
        t = head[TIME, i]
        if t > at_ms:
            continue
        while level < levels and t <= at_ms - plan.levels[entity, 0, level]:
            snapshot(plan, scratch, entity, level)
            level += 1
        if level == levels:
            break
        add_event(scratch.running, head[VALUE, i])
        for field in range(fields):
            add_distinct(scratch, levels, field, head[FIELD + field, i], tiled)
    while level < levels:
        snapshot(plan, scratch, entity, level)
        level += 1


@compiled
def add_distinct(scratch: Scratch, last: Int, field: Int, hashed: Int, tiled: bool) -> None:
    """Count a hash that was not seen since the pass began; 0 is absent."""
    if hashed == 0:
        return
    table = scratch.tables[field]
    at = find_slot(table, scratch.stamp[0], hashed)
    if table[0, at] == scratch.stamp[0]:
        return
    table[0, at] = scratch.stamp[0]
    table[1, at] = hashed
    scratch.distinct[last, field] += 1
    if tiled:
        add_to_registers(scratch.union[last, field], hashed)


@compiled
def add_head_labels(plan: Plan, scratch: Scratch, entity: Int, at_ms: Int) -> None:
    """Sum the head's labels into every level, newest first."""
    levels = plan.shape[entity, 0]
    head = scratch.heads[LABELS_SERIES]
    labels = np.int64(0)
    frauds = np.int64(0)
    i = scratch.span[LABELS_SERIES, 1] - 1
    start = scratch.span[LABELS_SERIES, 0]
    for level in range(levels):
        edge = at_ms - plan.levels[entity, 0, level]
        while i >= start and head[TIME, i] > edge:
            if head[TIME, i] <= at_ms:
                labels += head[WEIGHT, i]
                frauds += head[VALUE, i]
            i -= 1
        scratch.sums[level, LABELS] = labels
        scratch.sums[level, FRAUDS] = frauds


@compiled
def add_tiles(
    plan: Plan, scratch: Scratch, entity: Int, level: Int, series: Int, at_ms: Int
) -> None:
    """Add the tiles that the window touches to its sums, and their registers to its union."""
    tile_ms = plan.levels[entity, 1, level]
    low = (at_ms - plan.levels[entity, 0, level] + 1) // tile_ms
    high = at_ms // tile_ms
    columns = plan.levels[entity, 2, level]
    sums = scratch.sums[level]
    for i in range(scratch.used[level, series, 0], scratch.used[level, series, 1]):
        number = scratch.numbers[level, series, i]
        if number < low or number > high:
            continue
        tile = scratch.tiles[level, :, i]
        if series == LABELS_SERIES:
            sums[LABELS] += tile[LABELS]
            sums[FRAUDS] += tile[FRAUDS]
            continue
        if sums[COUNT] == 0:
            sums[MIN] = tile[MIN]
            sums[MAX] = tile[MAX]
        else:
            sums[MIN] = min(sums[MIN], tile[MIN])
            sums[MAX] = max(sums[MAX], tile[MAX])
        sums[COUNT] += tile[COUNT]
        sums[SUM] += tile[SUM]
        limb = sums[SQUARES_LOW] + tile[SQUARES_LOW]
        sums[SQUARES_LOW] = limb & LIMB_MASK
        sums[SQUARES_HIGH] += tile[SQUARES_HIGH] + (limb >> LIMB_BITS)
        for field in range(plan.shape[entity, 1]):
            if columns >> (DISTINCT_SHIFT + field) & 1:
                merge(scratch.union[level, field], scratch.registers[level, field, i])


@compiled
def merge(union: Bytes, registers: Bytes) -> None:
    """Take the larger of each register."""
    for r in range(REGISTERS):
        union[r] = max(union[r], registers[r])


@compiled
def count_distinct(
    plan: Plan, scratch: Scratch, entity: Int, level: Int, field: Int, at_ms: Int
) -> float:
    """Return the exact number where the head holds the window, else the larger of both numbers."""
    exact = float(scratch.distinct[level, field])
    tile_ms = plan.levels[entity, 1, level]
    low = (at_ms - plan.levels[entity, 0, level] + 1) // tile_ms
    for i in range(scratch.used[level, EVENTS, 0], scratch.used[level, EVENTS, 1]):
        if low <= scratch.numbers[level, EVENTS, i] <= at_ms // tile_ms:
            return max(exact, estimate(scratch.union[level, field]))
    return exact


@compiled
def estimate(registers: Bytes) -> float:
    """Return HyperLogLog's estimate: linear counting below 2.5 m, standard error 13 % above."""
    inverse = 0.0
    empty = 0
    for r in range(REGISTERS):
        inverse += 2.0 ** -float(registers[r])
        if registers[r] == 0:
            empty += 1
    raw = HLL_ALPHA * REGISTERS * REGISTERS / inverse
    if raw <= 2.5 * REGISTERS and empty > 0:
        return REGISTERS * math.log(REGISTERS / empty)
    return raw


@compiled
def since_last(scratch: Scratch, at_ms: Int, own_id: Int) -> float:
    """Return seconds since the newest event at or before `at_ms`, the own one apart."""
    head = scratch.heads[EVENTS]
    for i in range(scratch.span[EVENTS, 1] - 1, scratch.span[EVENTS, 0] - 1, -1):
        t = head[TIME, i]
        if t < at_ms or (t == at_ms and head[ID, i] != own_id):
            return float(at_ms - t) / 1000.0
    return math.nan
