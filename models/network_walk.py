"""a stack of networks, ways into it → its log-odds: the forward pass, compiled for a CPU.

A tensor library takes longer to be called than one row takes: some twenty calls of a few µs each.
Rows are worked off one by one: a row's bits do not depend on what was scored with it.
"""

import numpy as np
from numpy.typing import NDArray

from features.window_jit import compiled_free, entered_free

Floats = NDArray[np.float32]
ZERO = np.float32(0)


@entered_free
def forward_many(
    way: Floats,
    w0_across: Floats,
    at_start: Floats,
    w1: Floats,
    b1: Floats,
    w2: Floats,
    linear: NDArray[np.float64],
    bias: float,
    factor: float,
    first: Floats,
    second: Floats,
    total: NDArray[np.float64],
) -> None:
    """Add the mean log-odds of k networks, times a factor, to each row's total.

    Args:
        way: What the first layer is given, less what it is given at the baseline, shape (m, v).
        w0_across: First layer, shape (v, k·h0), network beside network.
        at_start: First layer at the baseline before rectification, shape (k, h0).
        w1: Shape (k, h0, h1): by unit of the first layer.
        b1: Shape (k, h1).
        w2: Shape (k, h1).
        linear: Mean linear term of the first n inputs, shape (n,).
        bias: Mean of the networks' own.
        factor: What the mean counts for.
        first: Room for k·h0 numbers.
        second: Room for h1 numbers.
        total: Shape (m,); added to.
    """
    networks, units = at_start.shape
    for row in range(way.shape[0]):
        logit = 0.0
        for j in range(networks):
            for h in range(units):
                first[j * units + h] = at_start[j, h]
        for i in range(way.shape[1]):
            step = way[row, i]
            if step != ZERO:
                for h in range(first.shape[0]):
                    first[h] += step * w0_across[i, h]
        for j in range(networks):
            here = slice(j * units, (j + 1) * units)
            logit += _logit_of_one(first[here], w1[j], b1[j], w2[j], second)
        logit /= networks
        for i in range(linear.shape[0]):
            logit += np.float64(way[row, i]) * linear[i]
        total[row] += factor * (logit + bias)


@compiled_free
def _logit_of_one(first: Floats, w1: Floats, b1: Floats, w2: Floats, second: Floats) -> float:
    """Return a network's log-odds above its own bias, of its first layer."""
    for m in range(second.shape[0]):
        second[m] = b1[m]
    for h in range(first.shape[0]):
        held = first[h]
        if held > ZERO:
            for m in range(second.shape[0]):
                second[m] += held * w1[h, m]
    logit = 0.0
    for m in range(second.shape[0]):
        if second[m] > ZERO:
            logit += np.float64(second[m]) * np.float64(w2[m])
    return logit


def warm_up() -> None:
    """Compile (or load from numba's disk cache), so that no caller waits later."""
    wide, one = np.zeros((1, 1), np.float32), np.ones(1, np.float32)
    rows, total = np.zeros((1, 1, 1), np.float32), np.zeros(1)
    forward_many(wide, wide, wide, rows, wide, wide, np.zeros(1), 0.0, 0.0, one, one, total)
