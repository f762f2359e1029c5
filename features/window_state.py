"""bytes → unfolded state → bytes: heads, tiles and their expiry.

A state is a function of the *set* of rows that were applied, whatever their order and batches:

- `newest` is the largest time of the set (it always stands at the end of a head).
- Level l keeps a row iff time // tile ≥ (newest - window - reorder + 1) // tile; a row that no
  level keeps is forgotten. As time goes on this only forgets more, and never the newer first.
- The head of a series holds its newest K rows by (time, id); every older row that a level keeps
  stands in that level's tiles. So tiles are empty unless the head is full.

Amounts are at most ±2⁴⁴; squares are summed exactly in two limbs of base 2⁴⁸.
"""

from features.spec import STATE_FORMAT
from features.spec_levels import COLUMNS, DISTINCT_SHIFT, FRAUDS, HEADER_BYTES, LABELS, MAX
from features.window_codec import (
    fold_signs,
    get_column,
    get_distinct,
    get_number,
    get_registers,
    put_column,
    put_distinct,
    put_number,
    put_registers,
    unfold_signs,
)
from features.window_jit import Bytes, Int, compiled
from features.window_plan import DIGEST_BYTES, FIELD, ID, TIME, VALUE, WEIGHT, Plan, Scratch

FORMAT = STATE_FORMAT
HEADER = HEADER_BYTES
OK, WRONG_FORMAT, WRONG_DIGEST, WRONG_ENTITY, CORRUPT = range(5)
EVENTS, LABELS_SERIES = 0, 1
EVENT_BITS = (1 << (MAX + 1)) - 1
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
    for k in range(DIGEST_BYTES):
        if data[pos + 2 + k] != plan.digest[k]:
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
        for level in range(plan.shape[entity, 0]):
            scratch.used[level, series, 0] = 0
            scratch.used[level, series, 1] = 0
    if pos == end:
        return OK
    status = check_header(plan, entity, data, pos, end)
    if status != OK:
        return status
    pos += HEADER
    for series in range(2):
        pos = load_head(plan, scratch, entity, series, data, pos, end)
        if pos > 0 and scratch.span[series, 1] == plan.limits[series]:
            for level in range(plan.shape[entity, 0]):
                pos = load_tiles(plan, scratch, entity, level, series, data, pos, end)
        if pos < 0:
            return CORRUPT
    return OK if pos == end else CORRUPT


@compiled
def load_head(
    plan: Plan, scratch: Scratch, entity: Int, series: Int, data: Bytes, pos: Int, end: Int
) -> Int:
    """Unfold one head; return the position behind it, or -1."""
    if pos + 2 > end:
        return -1
    n = get_number(data, pos, 2)
    pos += 2
    if n > plan.limits[series]:
        return -1
    scratch.span[series, 1] = n
    if n == 0:
        return pos
    if pos + 8 > end:
        return -1
    head = scratch.heads[series]
    first = get_number(data, pos, 8)
    pos = get_column(data, pos + 8, end, head[TIME], n, first)
    pos = get_column(data, pos, end, head[ID], n, 0)
    if series == LABELS_SERIES:
        pos = get_column(data, pos, end, head[WEIGHT], n, 0)
        unfold_signs(head[WEIGHT], n)
    else:
        for i in range(n):
            head[WEIGHT, i] = 1
    pos = get_column(data, pos, end, head[VALUE], n, 0)
    unfold_signs(head[VALUE], n)
    if series == EVENTS:
        for field in range(plan.shape[entity, 1]):
            pos = get_distinct(data, pos, end, head[FIELD + field], n, scratch.lookup)
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
    columns = plan.levels[entity, 2, level]
    if pos < 0 or columns & bits_of(series) == 0:
        return pos
    if pos + 2 > end:
        return -1
    n = get_number(data, pos, 2)
    pos += 2
    if n > scratch.numbers.shape[2] // 2 - 2:
        return -1
    scratch.used[level, series, 1] = n
    if n == 0 or pos + 8 > end:
        return pos if n == 0 else -1
    first = get_number(data, pos, 8)
    pos = get_column(data, pos + 8, end, scratch.numbers[level, series], n, first)
    for column in range(COLUMNS):
        if (columns & bits_of(series)) >> column & 1:
            pos = get_column(data, pos, end, scratch.tiles[level, column], n, 0)
            unfold_signs(scratch.tiles[level, column], n)
    if series == EVENTS:
        for field in range(plan.shape[entity, 1]):
            if columns >> (DISTINCT_SHIFT + field) & 1:
                for i in range(n):
                    pos = get_registers(data, pos, end, scratch.registers[level, field, i])
    return pos


@compiled
def save(plan: Plan, scratch: Scratch, entity: Int, out: Bytes, pos: Int) -> Int:
    """Fold the state into `out` at `pos`, which uses it up; return the position behind it."""
    out[pos] = FORMAT
    out[pos + 1] = entity
    for k in range(8):
        out[pos + 2 + k] = plan.digest[k]
    pos += HEADER
    for series in range(2):
        pos = save_head(plan, scratch, entity, series, out, pos)
        if scratch.span[series, 1] - scratch.span[series, 0] == plan.limits[series]:
            for level in range(plan.shape[entity, 0]):
                pos = save_tiles(plan, scratch, entity, level, series, out, pos)
    return pos


@compiled
def save_head(plan: Plan, scratch: Scratch, entity: Int, series: Int, out: Bytes, pos: Int) -> Int:
    """Fold one head; return the position behind it."""
    start = scratch.span[series, 0]
    n = scratch.span[series, 1] - start
    pos = put_number(out, pos, n, 2)
    if n == 0:
        return pos
    head = scratch.heads[series]
    first = head[TIME, start]
    pos = put_number(out, pos, first, 8)
    pos = put_column(out, pos, head[TIME], start, n, first)
    pos = put_column(out, pos, head[ID], start, n, 0)
    if series == LABELS_SERIES:
        fold_signs(head[WEIGHT], start, n)
        pos = put_column(out, pos, head[WEIGHT], start, n, 0)
    fold_signs(head[VALUE], start, n)
    pos = put_column(out, pos, head[VALUE], start, n, 0)
    if series == EVENTS:
        for field in range(plan.shape[entity, 1]):
            scratch.stamp[0] += 1
            stamp = scratch.stamp[0]
            column = head[FIELD + field]
            pos = put_distinct(out, pos, column, start, n, scratch.tables[0], stamp, scratch.lookup)
    return pos


@compiled
def save_tiles(
    plan: Plan, scratch: Scratch, entity: Int, level: Int, series: Int, out: Bytes, pos: Int
) -> Int:
    """Fold one series' tiles of one level; return the position behind them."""
    columns = plan.levels[entity, 2, level]
    if columns & bits_of(series) == 0:
        return pos
    start = scratch.used[level, series, 0]
    n = scratch.used[level, series, 1] - start
    pos = put_number(out, pos, n, 2)
    if n == 0:
        return pos
    first = scratch.numbers[level, series, start]
    pos = put_number(out, pos, first, 8)
    pos = put_column(out, pos, scratch.numbers[level, series], start, n, first)
    for column in range(COLUMNS):
        if (columns & bits_of(series)) >> column & 1:
            fold_signs(scratch.tiles[level, column], start, n)
            pos = put_column(out, pos, scratch.tiles[level, column], start, n, 0)
    if series == EVENTS:
        for field in range(plan.shape[entity, 1]):
            if columns >> (DISTINCT_SHIFT + field) & 1:
                for i in range(start, start + n):
                    pos = put_registers(out, pos, scratch.registers[level, field, i])
    return pos
