"""values of a field ↔ bytes: a dictionary in order of appearance, and each row's place in it.

A head holds places (entries), not values, so counting distinct values needs no hashing. The
dictionary is followed by the entries, all of one width; or, where that is shorter, by a bit for
each row that says whether its value is new, and the entries of those whose value is not. Which of
the two follows from the numbers of rows and of values.
"""

import numpy as np

from features.spec_levels import COUNT_BYTES, HASH_BITS
from features.window_codec import get_bits, get_number, put_bits, put_number
from features.window_jit import Bytes, Int, Ints, compiled
from features.window_plan import EVENTS, FIELD, Scratch
from features.window_words import bits_for

ABSENT = 1 << 15  # bit of the dictionary's size: some row has no value


@compiled
def find_slot(table: Ints, stamp: Int, value: Int) -> Int:
    """Return where in the hash table a value stands (stamped), or the free slot for it.

    The table has rows (stamp, value, entry) and a power of two of columns, at most half full.
    """
    mask = table.shape[1] - 1
    at = (value ^ (value >> 15)) & mask
    while table[0, at] == stamp and table[1, at] != value:
        at = (at + 1) & mask
    return at


@compiled
def index_words(scratch: Scratch, field: Int, stamp: Int) -> None:
    """Put all values of a field into its hash table, under this stamp, which must be new."""
    table = scratch.tables[field]
    for entry in range(1, scratch.tally[field] + 1):
        word = scratch.words[field, entry]
        at = find_slot(table, stamp, word)
        table[0, at] = stamp
        table[1, at] = word
        table[2, at] = entry


@compiled
def entry_of(scratch: Scratch, field: Int, stamp: Int, word: Int) -> Int:
    """Return a value's entry; one that is new gets the next."""
    if word == 0:
        return 0
    table = scratch.tables[field]
    at = find_slot(table, stamp, word)
    if table[0, at] != stamp:
        entry = scratch.tally[field] + 1
        table[0, at] = stamp
        table[1, at] = word
        table[2, at] = entry
        scratch.tally[field] = entry
        scratch.words[field, entry] = word
    return table[2, at]


@compiled
def renumber(scratch: Scratch, field: Int, start: Int, n: Int) -> Int:
    """Number the values of n rows in order of appearance, forgetting others; return `ABSENT` or 0.

    `ABSENT` says that a row has none.
    """
    column = scratch.heads[EVENTS, FIELD + field]
    words = scratch.words[field]
    number = scratch.numbering[0]
    order = scratch.numbering[1]
    for entry in range(scratch.tally[field] + 1):
        number[entry] = 0
    absent = 0
    size = 0
    for i in range(start, start + n):  # no branches: which value comes next cannot be predicted
        entry = column[i]
        absent |= entry == 0
        size += (number[entry] == 0) & (entry != 0)
        given = size if (number[entry] == 0) & (entry != 0) else number[entry]
        number[entry] = given
        order[given] = words[entry]
        column[i] = given
    for entry in range(1, size + 1):
        words[entry] = order[entry]
    scratch.tally[field] = size
    return ABSENT if absent else 0


@compiled
def put_field(scratch: Scratch, field: Int, out: Bytes, pos: Int, start: Int, n: Int) -> Int:
    """Write a field of n rows, and number its values anew; return the position behind."""
    absent = renumber(scratch, field, start, n)
    size = scratch.tally[field]
    column = scratch.heads[EVENTS, FIELD + field]
    lane = scratch.lane
    pos = put_number(out, pos, size | absent, COUNT_BYTES)
    pos = put_bits(out, pos, scratch.words[field], 1, size, HASH_BITS)
    lowest = 0 if absent else 1
    width = bits_for(size - lowest) if size > 0 else 0
    if n * width <= n + (n - size) * width:
        for i in range(n):
            lane[i] = column[start + i] - lowest
        return put_bits(out, pos, lane, 0, n, width)
    known = 0
    for i in range(n):
        lane[i] = 1 if column[start + i] > known else 0
        known += lane[i]
    pos = put_bits(out, pos, lane, 0, n, 1)
    known = 0
    old = 0
    for i in range(n):
        entry = column[start + i]
        if entry > known:
            known = entry
        else:
            lane[old] = entry - lowest
            old += 1
    return put_bits(out, pos, lane, 0, old, width)


@compiled
def get_field(scratch: Scratch, field: Int, data: Bytes, pos: Int, end: Int, n: Int) -> Int:
    """Read what `put_field` wrote into the first n rows; return the position behind, or -1."""
    if pos < 0 or pos + COUNT_BYTES > end:
        return -1
    size = get_number(data, pos, COUNT_BYTES)
    lowest = 0 if size & ABSENT else 1
    size &= ABSENT - 1
    if size > n or (size == 0 and lowest == 1):
        return -1
    pos = get_bits(data, pos + COUNT_BYTES, end, scratch.words[field][1:], size, HASH_BITS)
    scratch.tally[field] = size
    column = scratch.heads[EVENTS, FIELD + field]
    width = bits_for(size - lowest) if size > 0 else 0
    if n * width <= n + (n - size) * width:
        pos = get_bits(data, pos, end, column, n, width)
        for i in range(n):
            column[i] += lowest
    else:
        pos = get_marked(column, scratch.lane, data, pos, end, n, size, width, lowest)
    most = np.int64(0)
    if pos >= 0:
        for i in range(n):
            most = max(most, column[i])
    return pos if most <= size else -1


@compiled
def get_marked(
    column: Ints,
    lane: Ints,
    data: Bytes,
    pos: Int,
    end: Int,
    n: Int,
    size: Int,
    width: Int,
    lowest: Int,
) -> Int:
    """Read entries of which a bit says whether they are new; return the position behind, or -1."""
    pos = get_bits(data, pos, end, column, n, 1)
    if pos < 0:
        return -1
    new = np.int64(0)
    for i in range(n):
        new += column[i]
    pos = get_bits(data, pos, end, lane, n - new, width)
    if pos < 0 or new != size:
        return -1
    known = 0
    old = 0
    for i in range(n):
        if column[i]:
            known += 1
            column[i] = known
        else:
            column[i] = lane[old] + lowest
            old += 1
    return pos
