"""(y, p, w) → how far probabilities are probabilities: reliability bins."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FLOAT = NDArray[np.float64]
EDGES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 1.0)
"""Of the bins; the last takes 1 in. Fraud is rare, so most of them are small."""
Z95 = 1.959964


class Bin(NamedTuple):
    """Rows whose probability lies between two edges.

    Attributes:
        weight: Of its rows.
        rows: Their number.
        believed: Mean probability.
        seen: Share of frauds.
        low: End of the 95 % interval of that share (Wilson, 1927), by the number of rows.
        high: The other end.
    """

    weight: float
    rows: int
    believed: float
    seen: float
    low: float
    high: float


def bins_of(y: NDArray[np.uint8], p: FLOAT, w: FLOAT | None = None) -> list[Bin]:
    """Return the bins that have rows, by rising probability."""
    wide = np.ones(len(y)) if w is None else w
    place = np.clip(np.searchsorted(EDGES, p, side="right") - 1, 0, len(EDGES) - 2)
    bins = []
    for number in range(len(EDGES) - 1):
        rows = np.flatnonzero((place == number) & (wide > 0))
        weight = float(wide[rows].sum())
        if not weight:
            continue
        seen = float(np.sum(wide[rows] * y[rows])) / weight
        believed = float(np.sum(wide[rows] * p[rows])) / weight
        low, high = _wilson(seen, weight**2 / float(np.sum(wide[rows] ** 2)))
        bins.append(Bin(weight, len(rows), believed, seen, low, high))
    return bins


def calibration_error(y: NDArray[np.uint8], p: FLOAT, w: FLOAT | None = None) -> float:
    """Return the mean distance of a bin's probability from its share of frauds, by weight."""
    bins = bins_of(y, p, w)
    total = sum(one.weight for one in bins)
    if not total:
        return float("nan")
    return sum(one.weight * abs(one.believed - one.seen) for one in bins) / total


def _wilson(share: float, size: float) -> tuple[float, float]:
    """Return the interval of a share seen in `size` equal rows (or as many as weights equal)."""
    middle = share + Z95**2 / (2 * size)
    spread = Z95 * math.sqrt(share * (1 - share) / size + Z95**2 / (4 * size**2))
    below = 1 + Z95**2 / size
    return max((middle - spread) / below, 0.0), min((middle + spread) / below, 1.0)
