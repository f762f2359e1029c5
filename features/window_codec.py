"""integer columns ↔ bytes: each column as wide as its largest value needs; one value, one code.

Little-endian. A column is one byte of width (0 to 8), then that many bytes for each value. Widths
4 and 8 are written out so that the compiler can make single loads and stores of them.
Reading stays inside the buffer whatever the bytes say; -1 means that they make no sense.
"""

import numpy as np

from features.window_jit import Bytes, Int, Ints, compiled

REGISTERS = 64
SPARSE_MAX = 19
DENSE = 255


@compiled
def put_number(out: Bytes, pos: Int, value: Int, width: Int) -> Int:
    """Write one number in `width` bytes; return the position behind it."""
    for k in range(width):
        out[pos + k] = (value >> (8 * k)) & 255
    return pos + width


@compiled
def get_number(data: Bytes, pos: Int, width: Int) -> Int:
    """Read one unsigned number of `width` bytes (8 bytes: as signed)."""
    value = np.int64(0)
    for k in range(width):
        value |= np.int64(data[pos + k]) << np.int64(8 * k)
    return value


@compiled
def put_column(out: Bytes, pos: Int, column: Ints, start: Int, n: Int, base: Int) -> Int:
    """Write `column[start:start+n] - base`, read as unsigned; return the position behind."""
    every = np.int64(0)
    for i in range(start, start + n):
        every |= column[i] - base
    width = 0
    while width < 8 and (every >> (8 * width)) != 0:
        width += 1
    out[pos] = width
    pos += 1
    if width == 4:
        for i in range(start, start + n):
            v = column[i] - base
            out[pos] = v & 255
            out[pos + 1] = (v >> 8) & 255
            out[pos + 2] = (v >> 16) & 255
            out[pos + 3] = (v >> 24) & 255
            pos += 4
    elif width == 8:
        for i in range(start, start + n):
            v = column[i] - base
            for k in range(8):
                out[pos + k] = (v >> (8 * k)) & 255
            pos += 8
    else:
        for i in range(start, start + n):
            v = column[i] - base
            for k in range(width):
                out[pos + k] = (v >> (8 * k)) & 255
            pos += width
    return pos


@compiled
def get_column(data: Bytes, pos: Int, end: Int, column: Ints, n: Int, base: Int) -> Int:
    """Read n unsigned values plus `base` into `column[:n]`; return the position behind, or -1."""
    if pos < 0 or pos >= end:
        return -1
    width = np.int64(data[pos])
    pos += 1
    if width > 8 or pos + n * width > end:
        return -1
    if width == 4:
        for i in range(n):
            low = np.int64(data[pos]) | np.int64(data[pos + 1]) << 8
            high = np.int64(data[pos + 2]) | np.int64(data[pos + 3]) << 8
            column[i] = base + (low | high << 16)
            pos += 4
    elif width == 8:
        for i in range(n):
            v = np.int64(0)
            for k in range(8):
                v |= np.int64(data[pos + k]) << np.int64(8 * k)
            column[i] = v + base
            pos += 8
    else:
        for i in range(n):
            v = np.int64(0)
            for k in range(width):
                v |= np.int64(data[pos + k]) << np.int64(8 * k)
            column[i] = v + base
            pos += width
    return pos


@compiled
def fold_signs(column: Ints, start: Int, n: Int) -> None:
    """Zigzag in place: 0, -1, 1, -2 … → 0, 1, 2, 3 …, so that small stays small."""
    for i in range(start, start + n):
        column[i] = (column[i] << 1) ^ (column[i] >> 63)


@compiled
def unfold_signs(column: Ints, n: Int) -> None:
    """Undo `fold_signs` in `column[:n]`."""
    for i in range(n):
        v = column[i]
        column[i] = ((v >> 1) & 0x7FFFFFFFFFFFFFFF) ^ -(v & 1)


@compiled
def find_slot(table: Ints, stamp: Int, value: Int) -> Int:
    """Return where in the hash table a value stands (stamped), or the free slot for it.

    The table has rows (stamp, value, number) and a power of two of columns, at most half full.
    """
    mask = table.shape[1] - 1
    at = (value ^ (value >> 15)) & mask
    while table[0, at] == stamp and table[1, at] != value:
        at = (at + 1) & mask
    return at


@compiled
def put_distinct(
    out: Bytes, pos: Int, column: Ints, start: Int, n: Int, table: Ints, stamp: Int, lookup: Ints
) -> Int:
    """Write 32-bit hashes: as a dictionary in order of appearance where that is shorter.

    `lookup` has two rows of at least n: the dictionary, and each row's place in it. `stamp` is
    one that the table has not seen.
    """
    unique = 0
    for i in range(n):
        value = column[start + i]
        at = find_slot(table, stamp, value)
        if table[0, at] != stamp:
            table[0, at] = stamp
            table[1, at] = value
            table[2, at] = unique
            lookup[0, unique] = value
            unique += 1
        lookup[1, i] = table[2, at]
    index_width = 0 if unique < 2 else 1 if unique <= 256 else 2
    if 4 * unique + index_width * n + 3 >= 4 * n:
        out[pos] = 0
        return put_column(out, pos + 1, column, start, n, 0)
    out[pos] = 1
    pos = put_number(out, pos + 1, unique, 2)
    for i in range(unique):
        pos = put_number(out, pos, lookup[0, i], 4)
    return put_column(out, pos, lookup[1], 0, n, 0)


@compiled
def get_distinct(data: Bytes, pos: Int, end: Int, column: Ints, n: Int, lookup: Ints) -> Int:
    """Read what `put_distinct` wrote; return the position behind, or -1."""
    if pos < 0 or pos + 3 > end:
        return -1
    if data[pos] == 0:
        return get_column(data, pos + 1, end, column, n, 0)
    unique = get_number(data, pos + 1, 2)
    pos += 3
    if unique > n or pos + 4 * unique > end:
        return -1
    for i in range(unique):
        lookup[0, i] = get_number(data, pos, 4)
        pos += 4
    pos = get_column(data, pos, end, column, n, 0)
    for i in range(n):
        if pos < 0 or column[i] < 0 or column[i] >= unique:
            return -1
        column[i] = lookup[0, column[i]]
    return pos


@compiled
def put_registers(out: Bytes, pos: Int, registers: Bytes) -> Int:
    """Write 64 HyperLogLog registers (0 to 27): pairs while few are set, else 5 bits each."""
    used = 0
    for r in range(REGISTERS):
        if registers[r] != 0:
            used += 1
    if used <= SPARSE_MAX:
        out[pos] = used
        pos += 1
        for r in range(REGISTERS):
            if registers[r] != 0:
                out[pos] = r
                out[pos + 1] = registers[r]
                pos += 2
        return pos
    out[pos] = DENSE
    pos += 1
    for group in range(0, REGISTERS, 8):
        bits = 0
        for k in range(8):
            bits |= int(registers[group + k]) << (5 * k)
        pos = put_number(out, pos, bits, 5)
    return pos


@compiled
def get_registers(data: Bytes, pos: Int, end: Int, registers: Bytes) -> Int:
    """Read what `put_registers` wrote; return the position behind, or -1."""
    if pos < 0 or pos >= end:
        return -1
    used = np.int64(data[pos])
    pos += 1
    if used == DENSE:
        if pos + 40 > end:
            return -1
        for group in range(0, REGISTERS, 8):
            bits = get_number(data, pos, 5)
            pos += 5
            for k in range(8):
                registers[group + k] = (bits >> (5 * k)) & 31
        return pos
    if used > SPARSE_MAX or pos + 2 * used > end:
        return -1
    for r in range(REGISTERS):
        registers[r] = 0
    for _ in range(used):
        registers[data[pos] & 63] = data[pos + 1] & 31
        pos += 2
    return pos
