"""what the windows add up to → features: every aggregate, NaN where there is nothing to tell.

Standard deviations are of the population. An ewma weighs each amount by 2^(-8·age/window).
"""

import math

from features.spec_levels import (
    COUNT,
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
from features.window_evaluate import add_up, find_newest, find_own, is_late, range_of_tiles
from features.window_insert import HALF_LIMB_BITS, HALF_LIMB_MASK, LIMB_BITS, LIMB_MASK
from features.window_jit import Floats, Int, Ints, compiled
from features.window_plan import (
    AGGREGATES,
    EVENTS,
    FIELD,
    FILTER,
    FILTERS,
    LATITUDE,
    LONGITUDE,
    N_FEATURES,
    N_LEVELS,
    TILE,
    TILED,
    TIME,
    VALUE,
    WINDOW,
    Plan,
    Scratch,
)
from features.window_registers import estimate

LIMB = float(1 << LIMB_BITS)
HALF_LIVES_PER_WINDOW = 8.0
EARTH_KM = 6371.0088  # mean radius, IUGG
MS_PER_HOUR = 3_600_000.0
MICRODEGREES = 1e6
HALF_TURN = 180.0
COUNT_OF, SUM_OF, MEAN, STD, MIN_OF, MAX_OF, FIRST_OF, LAST_OF, EWMA = range(9)
DISTINCT, SINCE_LAST, IS_NEW, CHANGED, DISTANCE, SPEED, N_LABELS, N_FRAUDS, RATE = range(9, 18)
assert AGGREGATES[RATE] == "fraud_rate"


@compiled
def evaluate(
    plan: Plan, scratch: Scratch, entity: Int, at_ms: Int, own_id: Int, out: Floats
) -> bool:
    """Write the entity's features at `at_ms` into `out`; return whether the question came late."""
    add_up(plan, scratch, entity, at_ms)
    before = find_newest(scratch, at_ms, own_id, -1)
    for j in range(plan.shape[entity, N_FEATURES]):
        aggregate = plan.features[entity, 0, j]
        level = plan.features[entity, 1, j]
        field = plan.features[entity, 2, j]
        if aggregate == LAST_OF:
            out[j] = last(plan, scratch, entity, level, at_ms, own_id)
        elif aggregate == EWMA:
            out[j] = ewma(plan, scratch, entity, level, at_ms)
        elif aggregate == DISTINCT:
            out[j] = count_distinct(scratch, level, field)
        elif SINCE_LAST <= aggregate <= SPEED:
            out[j] = compare_last(plan, scratch, entity, aggregate, field, at_ms, own_id, before)
        else:
            out[j] = finish(scratch.sums[level], aggregate)
    return is_late(plan, scratch, entity, at_ms, before)


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
        elif aggregate == FIRST_OF:
            result = float(sums[FIRST])
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
    a0 = a & HALF_LIMB_MASK
    a1 = a >> HALF_LIMB_BITS
    b0 = b & HALF_LIMB_MASK
    b1 = (b >> HALF_LIMB_BITS) & HALF_LIMB_MASK
    b2 = b >> LIMB_BITS
    cross = a0 * b1 + a1 * b0
    low = a0 * b0 + ((cross & HALF_LIMB_MASK) << HALF_LIMB_BITS)
    high = a0 * b2 + a1 * b1 + (cross >> HALF_LIMB_BITS)
    high += ((a1 * b2) << HALF_LIMB_BITS) + (low >> LIMB_BITS)
    low &= LIMB_MASK
    if (m < 0) != (other < 0):
        high = -high
        low = -low
    about = float(squares_high - high) * LIMB + float(squares_low - low)
    rest = float(r) / float(n)
    return math.sqrt(max(0.0, about / float(n) - rest * rest))


@compiled
def last(plan: Plan, scratch: Scratch, entity: Int, level: Int, at_ms: Int, own_id: Int) -> float:
    """Return the amount of the window's newest event other than the asking one."""
    wanted = plan.levels[entity, FILTER, level]
    at = find_newest(scratch, at_ms, own_id, wanted)
    if at >= 0:
        if scratch.heads[EVENTS, TIME, at] <= at_ms - plan.levels[entity, WINDOW, level]:
            return math.nan
        return float(scratch.heads[EVENTS, VALUE, at])
    if wanted >= 0 and scratch.sums[level, TILED]:
        return float(scratch.sums[level, LAST])
    return math.nan


@compiled
def ewma(plan: Plan, scratch: Scratch, entity: Int, level: Int, at_ms: Int) -> float:
    """Return the mean of the window's amounts, each halved eight times over the window."""
    times = scratch.heads[EVENTS, TIME]
    filters = scratch.heads[EVENTS, FILTERS]
    wanted = plan.levels[entity, FILTER, level]
    window_ms = plan.levels[entity, WINDOW, level]
    rate = -HALF_LIVES_PER_WINDOW * math.log(2.0) / float(window_ms)
    above = 0.0
    below = 0.0
    for i in range(scratch.span[EVENTS, 1] - 1, scratch.span[EVENTS, 0] - 1, -1):
        age = at_ms - times[i]
        if age >= window_ms:
            break
        if age >= 0 and (wanted < 0 or filters[i] >> wanted & 1):
            weight = math.exp(rate * float(age))
            above += weight * float(scratch.heads[EVENTS, VALUE, i])
            below += weight
    tile_ms = plan.levels[entity, TILE, level]
    begin, end = range_of_tiles(plan, scratch, entity, level, EVENTS, at_ms)
    for i in range(begin, end):
        middle = float(scratch.numbers[level, EVENTS, i] * tile_ms) + float(tile_ms) / 2.0
        weight = math.exp(rate * (float(at_ms) - middle))
        above += weight * float(scratch.tiles[level, SUM, i])
        below += weight * float(scratch.tiles[level, COUNT, i])
    return above / below if below > 0.0 else math.nan


@compiled
def count_distinct(scratch: Scratch, level: Int, field: Int) -> float:
    """Return the exact number where the head holds the window, else the larger of both numbers."""
    exact = float(scratch.distinct[level, field])
    if scratch.sums[level, TILED]:
        return max(exact, estimate(scratch.union[level, field]))
    return exact


@compiled
def compare_last(
    plan: Plan,
    scratch: Scratch,
    entity: Int,
    aggregate: Int,
    field: Int,
    at_ms: Int,
    own_id: Int,
    before: Int,
) -> float:
    """Return how the asking event compares with the newest other one, which stands at `before`."""
    if aggregate == IS_NEW:
        return is_new(plan, scratch, entity, before)
    result = math.nan
    if before >= 0:
        age_ms = float(at_ms - scratch.heads[EVENTS, TIME, before])
        own = find_own(scratch, at_ms, own_id)
        if aggregate == SINCE_LAST:
            result = age_ms / 1000.0
        elif own >= 0 and aggregate == CHANGED:
            entries = scratch.heads[EVENTS, FIELD + field]
            if entries[own] != 0 and entries[before] != 0:
                result = 0.0 if entries[own] == entries[before] else 1.0
        elif own >= 0:
            result = distance(plan, scratch, entity, own, before)
            if aggregate == SPEED:
                result = result / (age_ms / MS_PER_HOUR) if age_ms > 0.0 else math.nan
    return result


@compiled
def is_new(plan: Plan, scratch: Scratch, entity: Int, before: Int) -> float:
    """Return 1.0 where the state holds no event other than the asking one by then, else 0.0."""
    for level in range(plan.shape[entity, N_LEVELS]):
        if scratch.used[level, EVENTS, 1] > scratch.used[level, EVENTS, 0]:
            return 0.0
    return 1.0 if before < 0 else 0.0


@compiled
def distance(plan: Plan, scratch: Scratch, entity: Int, one: Int, other: Int) -> float:
    """Return the great-circle distance (haversine) between two rows of the head, in km."""
    north = plan.shape[entity, LATITUDE]
    east = plan.shape[entity, LONGITUDE]
    a = scratch.words[north, scratch.heads[EVENTS, FIELD + north, one]]
    b = scratch.words[east, scratch.heads[EVENTS, FIELD + east, one]]
    c = scratch.words[north, scratch.heads[EVENTS, FIELD + north, other]]
    d = scratch.words[east, scratch.heads[EVENTS, FIELD + east, other]]
    if a == 0 or b == 0 or c == 0 or d == 0:
        return math.nan
    upper = math.radians(float(a - 1) / MICRODEGREES - HALF_TURN)
    lower = math.radians(float(c - 1) / MICRODEGREES - HALF_TURN)
    turn = math.radians(float(b - d) / MICRODEGREES)
    half = math.sin((upper - lower) / 2.0)
    side = math.sin(turn / 2.0)
    squared = half * half + math.cos(upper) * math.cos(lower) * side * side
    return 2.0 * EARTH_KM * math.asin(math.sqrt(min(1.0, squared)))
