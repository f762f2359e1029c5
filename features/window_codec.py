"""integer columns ↔ bytes: each column as many bits wide as its largest value needs.

A column is one byte (its width, 0 to 64; the top bit says that signs are folded in), then its
values end to end, in whole bytes. One column has one code. Reading stays inside the buffer and
`features.window_room.PADDING`, whatever the bytes say; -1 means that they make no sense.
"""

import numpy as np

from features.window_jit import Bytes, Int, Ints, compiled
from features.window_words import bits_for, load_word, store_half

HALF_BITS = 32
HALF_MASK = (1 << HALF_BITS) - 1
LOADED_BITS_MAX = 57  # of a word that begins anywhere within a byte
FOLDED = 128


@compiled
def put_number(out: Bytes, pos: Int, value: Int, width: Int) -> Int:
    """Write one number in `width` bytes; return the position behind it."""
    for k in range(width):
        out[pos + k] = (value >> (8 * k)) & 255
    return pos + width


@compiled
def get_number(data: Bytes, pos: Int, width: Int) -> Int:
    """Read one unsigned number of `width` bytes, at most 7."""
    return load_word(data, pos) & ((np.int64(1) << (8 * width)) - 1)


@compiled
def put_bits(out: Bytes, pos: Int, column: Ints, start: Int, n: Int, width: Int) -> Int:
    """Write `column[start:start+n]`, each in `width` bits; return the position behind.

    Up to 4 bytes behind that position are overwritten. There are no branches within a loop: widths
    differ from state to state, and a wrong guess costs more than a store that is done again.
    """
    held = np.int64(0)
    filled = np.int64(0)
    if width <= HALF_BITS:
        for i in range(start, start + n):
            held |= column[i] << filled
            filled += width
            store_half(out, pos, held)
            full = filled >> 5
            pos += full << 2
            held >>= full << 5
            filled &= 31
    else:
        for i in range(2 * n):
            value = column[start + (i >> 1)]
            held |= ((value >> HALF_BITS if i & 1 else value) & HALF_MASK) << filled
            filled += width - HALF_BITS if i & 1 else HALF_BITS
            store_half(out, pos, held)
            full = filled >> 5
            pos += full << 2
            held >>= full << 5
            filled &= 31
    store_half(out, pos, held)
    return pos + ((filled + 7) >> 3)


@compiled
def get_bits(data: Bytes, pos: Int, end: Int, column: Ints, n: Int, width: Int) -> Int:
    """Read n values of `width` bits into `column[:n]`; return the position behind, or -1."""
    behind = pos + ((n * width + 7) >> 3)
    if pos < 0 or behind > end:
        return -1
    if width <= LOADED_BITS_MAX:
        mask = (np.int64(1) << width) - 1
        for i in range(n):
            bit = i * width
            column[i] = (load_word(data, pos + (bit >> 3)) >> (bit & 7)) & mask
        return behind
    mask = (np.int64(1) << (width - HALF_BITS)) - 1
    for i in range(n):
        bit = i * width
        low = (load_word(data, pos + (bit >> 3)) >> (bit & 7)) & HALF_MASK
        bit += HALF_BITS
        high = (load_word(data, pos + (bit >> 3)) >> (bit & 7)) & mask
        column[i] = low | high << HALF_BITS
    return behind


@compiled
def put_column(out: Bytes, pos: Int, column: Ints, start: Int, n: Int, lane: Ints) -> Int:
    """Write `column[start:start+n]`, signs folded in if there are any; return the position behind.

    Zigzag: 0, -1, 1, -2 … → 0, 1, 2, 3 …, so that small stays small. `lane` is room for n.
    """
    every = np.int64(0)
    for i in range(start, start + n):
        every |= column[i]
    if every >= 0:
        width = bits_for(every)
        out[pos] = width
        return put_bits(out, pos + 1, column, start, n, width)
    every = np.int64(0)
    for i in range(n):
        value = column[start + i]
        folded = (value << 1) ^ (value >> 63)
        lane[i] = folded
        every |= folded
    width = bits_for(every)
    out[pos] = FOLDED | width
    return put_bits(out, pos + 1, lane, 0, n, width)


@compiled
def get_column(data: Bytes, pos: Int, end: Int, column: Ints, n: Int) -> Int:
    """Read n values into `column[:n]`; return the position behind, or -1."""
    if pos < 0 or pos >= end:
        return -1
    kind = np.int64(data[pos])
    width = kind & (FOLDED - 1)
    if width > 64:
        return -1
    pos = get_bits(data, pos + 1, end, column, n, width)
    if kind >= FOLDED:
        for i in range(n):
            v = column[i]
            column[i] = ((v >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(v & 1)
    return pos


@compiled
def put_rising(
    out: Bytes, pos: Int, column: Ints, start: Int, n: Int, first_bytes: Int, lane: Ints
) -> Int:
    """Write numbers that never fall: the first, then the steps; return the position behind."""
    pos = put_number(out, pos, column[start], first_bytes)
    every = np.int64(0)
    for i in range(n - 1):
        step = column[start + i + 1] - column[start + i]
        lane[i] = step
        every |= step
    width = bits_for(every)
    out[pos] = width
    return put_bits(out, pos + 1, lane, 0, n - 1, width)


@compiled
def get_rising(data: Bytes, pos: Int, end: Int, column: Ints, n: Int, first_bytes: Int) -> Int:
    """Read what `put_rising` wrote; return the position behind, or -1."""
    if pos < 0 or pos + first_bytes + 1 > end:
        return -1
    value = get_number(data, pos, first_bytes)
    pos += first_bytes
    width = np.int64(data[pos])
    if width > 8 * first_bytes:
        return -1
    column[0] = value
    pos = get_bits(data, pos + 1, end, column[1:], n - 1, width)
    if pos >= 0:
        for i in range(1, n):
            value += column[i]
            column[i] = value
    return pos
