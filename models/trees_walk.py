"""trees' nodes, vectors → the sum of the leaves they end in: the walk, compiled, for a CPU.

A tensor library asks for six passes over all trees at each level: 100 µs for one row and 200 trees
of depth 6, 2 ms for 256 rows. This takes a twentieth, and a quarter. Sums run in tree order in
float64, so a row's does not depend on what was walked with it.
Indices are unsigned: signed ones are asked at each use whether they count from the end.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from features.window_jit import entered

_numba: Any = numba  # its types do not name its configuration
COMPILED = not _numba.config.DISABLE_JIT
"""Without it the walk is right and slow."""
ROWS_SIDE_BY_SIDE = 4
"""From so many rows on, a tree's are walked level by level: their loads wait together."""

Floats = NDArray[np.float64]


@entered
def walk_many(
    X: NDArray[np.float32],
    side: NDArray[np.int32],
    threshold: NDArray[np.float32],
    child: NDArray[np.int32],
    value: NDArray[np.float32],
    depth: int,
    places: NDArray[np.int32],
    total: Floats,
) -> None:
    """Add each row's leaves to its total.

    Args:
        X: Shape (m, n); NaN = missing.
        side: 2·feature + (1: a missing value goes left) of each node, shape (T, N).
        threshold: Left at or below it, shape (T, N).
        child: Right and left child of each node, shape (T, N, 2); a leaf's are itself.
        value: Shape (T, N).
        depth: Steps after which every path has ended.
        places: Room for m numbers.
        total: Shape (m,); added to.
    """
    one, rows = np.uint64(1), np.uint64(X.shape[0])
    for tree in range(np.uint64(side.shape[0])):
        for row in range(rows):
            places[row] = 0
        if rows < ROWS_SIDE_BY_SIDE:
            for row in range(rows):
                for _ in range(depth):
                    node = np.uint64(places[row])
                    code = np.uint64(side[tree, node])
                    x = X[row, code >> one]
                    missing = np.uint64(x != x)  # noqa: PLR0124 - only NaN is not itself
                    left = np.uint64(x <= threshold[tree, node]) | (missing & (code & one))
                    places[row] = child[tree, node, left]
                    if np.uint64(places[row]) == node:
                        break
        else:
            for _ in range(depth):
                moving = False
                for row in range(rows):
                    node = np.uint64(places[row])
                    code = np.uint64(side[tree, node])
                    x = X[row, code >> one]
                    missing = np.uint64(x != x)  # noqa: PLR0124 - only NaN is not itself
                    left = np.uint64(x <= threshold[tree, node]) | (missing & (code & one))
                    places[row] = child[tree, node, left]
                    moving |= np.uint64(places[row]) != node
                if not moving:
                    break
        for row in range(rows):
            total[row] += value[tree, np.uint64(places[row])]


@entered
def attribute_many(
    X: NDArray[np.float32],
    side: NDArray[np.int32],
    threshold: NDArray[np.float32],
    child: NDArray[np.int32],
    value: NDArray[np.float32],
    depth: int,
    moved: Floats,
) -> None:
    """Add what each step of each path moves the value by to the feature that split there.

    Args as for `walk_many`, but `moved`: shape (m, n); added to.
    """
    one = np.uint64(1)
    for tree in range(np.uint64(side.shape[0])):
        for row in range(np.uint64(X.shape[0])):
            node = np.uint64(0)
            for _ in range(depth):
                code = np.uint64(side[tree, node])
                x = X[row, code >> one]
                missing = np.uint64(x != x)  # noqa: PLR0124 - only NaN is not itself
                left = np.uint64(x <= threshold[tree, node]) | (missing & (code & one))
                following = np.uint64(child[tree, node, left])
                if following == node:
                    break
                step = np.float64(value[tree, following]) - np.float64(value[tree, node])
                moved[row, code >> one] += step
                node = following


def warm_up() -> None:
    """Compile both walks (or load them from numba's disk cache), so that no caller waits later."""
    one, leaf = np.zeros((1, 1), np.float32), np.zeros((1, 1), np.int32)
    child = np.zeros((1, 1, 2), np.int32)
    walk_many(one, leaf, one, child, one, 0, np.zeros(1, np.int32), np.zeros(1))
    attribute_many(one, leaf, one, child, one, 0, np.zeros((1, 1)))
