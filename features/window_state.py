"""bytes → unfolded state → bytes: heads, tiles and their expiry.

A state is a function of the *set* of rows that were applied, whatever their order and batches:

- `newest` is the largest time of the set (it always stands at the end of a head).
- Level l keeps a row iff time // tile ≥ (newest - window - reorder + 1) // tile; a row that no
  level keeps is forgotten. As time goes on this only forgets more, and never the newer first.
- The head of a series holds its newest K rows by (time, id); every older row that a level keeps
  (and whose filter it meets) stands in that level's tiles. So tiles are empty unless the head is
  full.

Amounts are at most ±2⁴⁴; squares are summed exactly in two limbs of base 2⁴⁸.
"""

from features.spec import STATE_FORMAT
from features.spec_levels import (
    COLUMNS,
    COUNT_BYTES,
    DISTINCT_SHIFT,
    FRAUDS,
    HEADER_BYTES,
    ID_BITS,
    LABELS,
    TIME_BYTES,
)
from features.window_codec import (
    get_bits,
    get_column,
    get_number,
    get_rising,
    put_bits,
    put_column,
    put_number,
    put_rising,
)
from features.window_fields import get_field, put_field
from features.window_jit import Bytes, Int, compiled
from features.window_plan import (
    COLUMN_BITS,
    EVENTS,
    FILTER_BITS,
    FILTERS,
    ID,
    LABELS_SERIES,
    N_FIELDS,
    N_LEVELS,
    TIME,
    VALUE,
    WEIGHT,
    Plan,
    Scratch,
)
from features.window_registers import get_registers, put_registers
from features.window_words import load_word, store_half

FORMAT = STATE_FORMAT
HEADER = HEADER_BYTES
OK, WRONG_FORMAT, WRONG_DIGEST, WRONG_ENTITY, CORRUPT = range(5)
EVENT_BITS = (1 << LABELS) - 1
LABEL_BITS = (1 << LABELS) | (1 << FRAUDS)


@compiled
def bits_of(series: Int) -> Int:
    """Return the tile columns that belong to a series, as a bit set."""
    return EVENT_BITS if series == EVENTS else LABEL_BITS


@compiled
def check_header(plan: Plan, entity: Int, data: Bytes, pos: Int, end: Int) -> Int:
    """Return OK, or what is wrong with the first bytes of a state."""
    if end - pos < HEADER or data[pos] != FORMAT:
        return WRONG_FORMAT
    if load_word(data, pos + 2) != plan.digest:
        return WRONG_DIGEST
    if data[pos + 1] != entity:
        return WRONG_ENTITY
    return OK


@compiled
def load(plan: Plan, scratch: Scratch, entity: Int, data: Bytes, pos: Int, end: Int) -> Int:
    """Unfold the state in `data[pos:end]` (empty: a new one); return OK or what is wrong."""
    for series in range(2):
        scratch.span[series, 0] = 0
        scratch.span[series, 1] = 0
        for level in range(plan.shape[entity, N_LEVELS]):
            scratch.used[level, series, 0] = 0
            scratch.used[level, series, 1] = 0
    for field in range(plan.shape[entity, N_FIELDS]):
        scratch.tally[field] = 0
    if pos == end:
        return OK
    status = check_header(plan, entity, data, pos, end)
    if status != OK:
        return status
    pos += HEADER
    for series in range(2):
        pos = load_head(plan, scratch, entity, series, data, pos, end)
        if pos > 0 and scratch.span[series, 1] == plan.limits[series]:
            for level in range(plan.shape[entity, N_LEVELS]):
                pos = load_tiles(plan, scratch, entity, level, series, data, pos, end)
        if pos < 0:
            return CORRUPT
    return OK if pos == end else CORRUPT


@compiled
def load_head(
    plan: Plan, scratch: Scratch, entity: Int, series: Int, data: Bytes, pos: Int, end: Int
) -> Int:
    """Unfold one head; return the position behind it, or -1."""
    if pos + COUNT_BYTES > end:
        return -1
    n = get_number(data, pos, COUNT_BYTES)
    pos += COUNT_BYTES
    if n > plan.limits[series]:
        return -1
    scratch.span[series, 1] = n
    if n == 0:
        return pos
    head = scratch.heads[series]
    pos = get_rising(data, pos, end, head[TIME], n, TIME_BYTES)
    if pos < 0:
        return -1
    pos = get_bits(data, pos, end, head[ID], n, ID_BITS)
    pos = get_column(data, pos, end, head[VALUE], n)
    if series == LABELS_SERIES:
        return get_column(data, pos, end, head[WEIGHT], n)
    if plan.shape[entity, FILTER_BITS] != 0:
        pos = get_column(data, pos, end, head[FILTERS], n)
    for field in range(plan.shape[entity, N_FIELDS]):
        pos = get_field(scratch, field, data, pos, end, n)
    return pos


@compiled
def load_tiles(
    plan: Plan,
    scratch: Scratch,
    entity: Int,
    level: Int,
    series: Int,
    data: Bytes,
    pos: Int,
    end: Int,
) -> Int:
    """Unfold one series' tiles of one level; return the position behind them, or -1."""
    columns = plan.levels[entity, COLUMN_BITS, level]
    if pos < 0 or columns & bits_of(series) == 0:
        return pos
    if pos + COUNT_BYTES > end:
        return -1
    n = get_number(data, pos, COUNT_BYTES)
    pos += COUNT_BYTES
    if n > scratch.numbers.shape[2] // 2 - 2:
        return -1
    scratch.used[level, series, 1] = n
    if n == 0:
        return pos
    pos = get_rising(data, pos, end, scratch.numbers[level, series], n, TIME_BYTES)
    for column in range(COLUMNS):
        if (columns & bits_of(series)) >> column & 1:
            pos = get_column(data, pos, end, scratch.tiles[level, column], n)
    if series == EVENTS:
        for field in range(plan.shape[entity, N_FIELDS]):
            if columns >> (DISTINCT_SHIFT + field) & 1:
                for i in range(n):
                    pos = get_registers(data, pos, end, scratch.registers[level, field, i])
    return pos


@compiled
def save(plan: Plan, scratch: Scratch, entity: Int, out: Bytes, pos: Int) -> Int:
    """Fold the state into `out` at `pos`; return the position behind it."""
    out[pos] = FORMAT
    out[pos + 1] = entity
    store_half(out, pos + 2, plan.digest)
    store_half(out, pos + 6, plan.digest >> 32)
    pos += HEADER
    for series in range(2):
        pos = save_head(plan, scratch, entity, series, out, pos)
        if scratch.span[series, 1] - scratch.span[series, 0] == plan.limits[series]:
            for level in range(plan.shape[entity, N_LEVELS]):
                pos = save_tiles(plan, scratch, entity, level, series, out, pos)
    return pos


@compiled
def save_head(plan: Plan, scratch: Scratch, entity: Int, series: Int, out: Bytes, pos: Int) -> Int:
    """Fold one head; return the position behind it."""
    start = scratch.span[series, 0]
    n = scratch.span[series, 1] - start
    pos = put_number(out, pos, n, COUNT_BYTES)
    if n == 0:
        return pos
    head = scratch.heads[series]
    lane = scratch.lane
    pos = put_rising(out, pos, head[TIME], start, n, TIME_BYTES, lane)
    pos = put_bits(out, pos, head[ID], start, n, ID_BITS)
    pos = put_column(out, pos, head[VALUE], start, n, lane)
    if series == LABELS_SERIES:
        return put_column(out, pos, head[WEIGHT], start, n, lane)
    if plan.shape[entity, FILTER_BITS] != 0:
        pos = put_column(out, pos, head[FILTERS], start, n, lane)
    for field in range(plan.shape[entity, N_FIELDS]):
        pos = put_field(scratch, field, out, pos, start, n)
    return pos


@compiled
def save_tiles(
    plan: Plan, scratch: Scratch, entity: Int, level: Int, series: Int, out: Bytes, pos: Int
) -> Int:
    """Fold one series' tiles of one level; return the position behind them."""
    columns = plan.levels[entity, COLUMN_BITS, level]
    if columns & bits_of(series) == 0:
        return pos
    start = scratch.used[level, series, 0]
    n = scratch.used[level, series, 1] - start
    pos = put_number(out, pos, n, COUNT_BYTES)
    if n == 0:
        return pos
    lane = scratch.lane
    pos = put_rising(out, pos, scratch.numbers[level, series], start, n, TIME_BYTES, lane)
    for column in range(COLUMNS):
        if (columns & bits_of(series)) >> column & 1:
            pos = put_column(out, pos, scratch.tiles[level, column], start, n, lane)
    if series == EVENTS:
        for field in range(plan.shape[entity, N_FIELDS]):
            if columns >> (DISTINCT_SHIFT + field) & 1:
                for i in range(start, start + n):
                    pos = put_registers(out, pos, scratch.registers[level, field, i])
    return pos
