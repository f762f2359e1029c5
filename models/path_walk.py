"""a stack of networks, ways into it → integrated gradients along them, exact: compiled for a CPU.

On the straight way from the baseline a network of rectified units is piecewise linear. A unit of
the first layer is cut on or off at most once; between two such cuts a unit of the second layer is
linear, so the part of the way on which it is on has a closed form. The integral of the gradient is
a sum over those parts: no points, and nothing left over but rounding.

The first layer is multiplied once forwards and once back, whatever the number of cuts. Rows are
worked off one by one: a row's bits do not depend on what was explained with it.
"""

import numpy as np
from numpy.typing import NDArray

from features.window_jit import compiled_free, entered, entered_free

Floats = NDArray[np.float32]
TINY = np.float32(1e-30)
"""Ways shorter than this are none: products with denormal numbers take a hundred times as long."""
CLAMP = np.float32(8)
ZERO, ONE = np.float32(0), np.float32(1)
WIDE_ROOMS, NARROW_ROOMS = 4, 3


@entered
def scale_many(X: Floats, mean: Floats, scale: Floats, z: Floats) -> None:
    """Write z as the forward pass takes it: signed logarithm, standardised, NaN → 0, within ±8.

    Args:
        X: Shape (m, n).
        mean: Shape (n,).
        scale: Shape (n,).
        z: Shape (m, n); overwritten.
    """
    for row in range(X.shape[0]):
        for i in range(X.shape[1]):
            x = X[row, i]
            size = ZERO
            if x != ZERO:  # most counts and sums are none
                size = np.float32(np.log1p(abs(x)))
            at = ((size if x >= ZERO else -size) - mean[i]) / scale[i]
            if abs(at) < TINY or at != at:  # noqa: PLR0124 - only NaN is not itself
                at = ZERO
            z[row, i] = min(max(at, -CLAMP), CLAMP)


@entered_free
def integrate_many(
    way: Floats,
    target: NDArray[np.int64],
    w0: Floats,
    w0_across: Floats,
    at_start: Floats,
    second_at_start: Floats,
    w1: Floats,
    w2: Floats,
    factor: float,
    order: NDArray[np.int64],
    wide: Floats,
    narrow: Floats,
    moved: NDArray[np.float64],
) -> None:
    """Add what each feature of each row moves the sum of the networks by, times a factor.

    Args:
        way: From the baseline to the row, on the scale of the first layer, shape (m, v).
        target: Feature that each of the v inputs belongs to.
        w0: Shape (k·h0, v), network by network.
        w0_across: The same the other way round, shape (v, k·h0).
        at_start: First layer at the baseline before rectification, shape (k, h0).
        second_at_start: Second layer likewise, shape (k, h1).
        w1: Shape (k, h0, h1): by unit of the first layer.
        w2: Shape (k, h1).
        factor: What the networks' sum counts for.
        order: Room for h0 numbers.
        wide: Room, shape (WIDE_ROOMS, at least k·h0 and v).
        narrow: Room, shape (NARROW_ROOMS, h1).
        moved: Shape (m, n); added to.
    """
    networks, first = at_start.shape
    rate, pull, slope = wide[0], wide[1], wide[2]
    for row in range(way.shape[0]):
        for h in range(networks * first):
            rate[h] = ZERO
        for i in range(way.shape[1]):
            step = way[row, i]
            if step != ZERO:
                for h in range(networks * first):
                    rate[h] += step * w0_across[i, h]
        for j in range(networks):
            here = slice(j * first, (j + 1) * first)
            for m in range(narrow.shape[1]):
                narrow[0, m] = second_at_start[j, m]
            _pull_of_one(at_start[j], rate[here], w1[j], w2[j], order, wide[3], narrow, pull[here])
        for i in range(way.shape[1]):
            slope[i] = ZERO
        for h in range(networks * first):
            if pull[h] != ZERO:
                for i in range(way.shape[1]):
                    slope[i] += pull[h] * w0[h, i]
        for i in range(way.shape[1]):
            moved[row, target[i]] += factor * np.float64(way[row, i]) * np.float64(slope[i])


@compiled_free
def _pull_of_one(
    p: Floats,
    q: Floats,
    w1: Floats,
    w2: Floats,
    order: NDArray[np.int64],
    cut_at: Floats,
    narrow: Floats,
    pull: Floats,
) -> None:
    """Integrate the slope by each unit of the first layer, which is p + t·q, over t in [0, 1].

    `held` of a unit of the second layer is its weight times how long it was on so far. A unit of
    the first layer pulls by what was held while it was on.
    """
    first, second = w1.shape
    value, climb, held = narrow[0], narrow[1], narrow[2]
    for m in range(second):
        climb[m], held[m] = ZERO, ZERO
    cuts = _cuts_in_order(p, q, order, cut_at)
    for h in range(first):
        pull[h] = ZERO
        if p[h] > ZERO or (p[h] == ZERO and q[h] > ZERO):
            for m in range(second):
                climb[m] += q[h] * w1[h, m]
    now = ZERO
    for number in range(cuts + 1):
        until = cut_at[number] if number < cuts else ONE
        for m in range(second):
            before = value[m]
            after = before + (until - now) * climb[m]
            value[m] = after
            size = abs(before) + abs(after)
            on = before + after + size  # twice what is above 0 of either
            held[m] += (until - now) * w2[m] * (on / (size + size + TINY))
        now = until
        if number < cuts:
            h = order[number]
            so_far = _dot(held, w1[h])
            pull[h] = -so_far if q[h] > ZERO else so_far
            turned = abs(q[h])  # what it adds begins, or what it took away ends
            for m in range(second):
                climb[m] += turned * w1[h, m]
    for h in range(first):
        end = p[h] + q[h]
        if end > ZERO or (end == ZERO and p[h] > ZERO):
            pull[h] += _dot(held, w1[h])


@compiled_free
def _cuts_in_order(p: Floats, q: Floats, order: NDArray[np.int64], cut_at: Floats) -> int:
    """Find the units that are cut on or off on the way, by the place where; return how many."""
    count = 0
    for h in range(p.shape[0]):
        end = p[h] + q[h]
        if (p[h] > ZERO and end < ZERO) or (p[h] < ZERO and end > ZERO):
            at = -p[h] / q[h]
            place = count
            while place > 0 and cut_at[place - 1] > at:
                cut_at[place], order[place] = cut_at[place - 1], order[place - 1]
                place -= 1
            cut_at[place], order[place] = at, h
            count += 1
    return count


@compiled_free
def _dot(a: Floats, b: Floats) -> np.float32:
    total = ZERO
    for m in range(a.shape[0]):
        total += a[m] * b[m]
    return total


def warm_up() -> None:
    """Compile (or load from numba's disk cache), so that no caller waits later."""
    wide, one = np.zeros((1, 1), np.float32), np.ones(1, np.float32)
    scale_many(wide, one, one, np.zeros((1, 1), np.float32))
    order = np.zeros(1, np.int64)
    integrate_many(
        wide,
        order,
        wide,
        wide,
        wide,
        wide,
        np.zeros((1, 1, 1), np.float32),
        wide,
        0.0,
        order,
        np.zeros((WIDE_ROOMS, 1), np.float32),
        np.zeros((NARROW_ROOMS, 1), np.float32),
        np.zeros((1, 1)),
    )
