"""hashes → HyperLogLog registers → bytes, and an estimate: how a tile counts distinct values."""

import math

import numpy as np

from features.window_codec import get_number, put_number
from features.window_jit import Bytes, Int, compiled
from features.window_words import bits_for

REGISTERS = 64
SPARSE_MAX = 19
DENSE = 255
RANK_MAX = 27  # of a hash whose 26 bits behind the register's number are all zero
LARGEST = 31  # that a register's 5 bits hold; only a damaged state has more than RANK_MAX
ALPHA = 0.709  # Flajolet et al. 2007, for 64 registers


@compiled
def add_to_registers(registers: Bytes, hashed: Int) -> None:
    """Add one 32-bit hash to 64 registers; 0 is absent.

    The low 6 bits choose the register; its value is the position of the first one among the
    other 26 bits, from the top (27 if there is none).
    """
    if hashed == 0:
        return
    register = hashed & 63
    registers[register] = max(registers[register], RANK_MAX - bits_for(hashed >> 6))


@compiled
def merge(union: Bytes, registers: Bytes) -> None:
    """Take the larger of each register."""
    for r in range(REGISTERS):
        union[r] = max(union[r], registers[r])


@compiled
def estimate(registers: Bytes) -> float:
    """Return HyperLogLog's estimate: linear counting below 2.5 m, standard error 13 % above."""
    parts = np.int64(0)  # of 2^-LARGEST: whole numbers add up exactly, and fast
    empty = 0
    for r in range(REGISTERS):
        parts += np.int64(1) << (LARGEST - np.int64(registers[r]))
        if registers[r] == 0:
            empty += 1
    raw = ALPHA * REGISTERS * REGISTERS / (float(parts) / float(1 << LARGEST))
    if raw <= 2.5 * REGISTERS and empty > 0:
        return REGISTERS * math.log(REGISTERS / empty)
    return raw


@compiled
def put_registers(out: Bytes, pos: Int, registers: Bytes) -> Int:
    """Write 64 registers (0 to 27): pairs while few are set, else 5 bits each."""
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
        bits = np.int64(0)
        for k in range(8):
            bits |= np.int64(registers[group + k]) << (5 * k)
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
