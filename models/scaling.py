"""vectors → running mean and deviation of each feature on the signed logarithmic scale."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

PRIOR_ROWS = 10.0
"""Weight of the belief, held before any row, that a feature has mean 0 and deviation 1."""
MEMORY_ROWS = 200_000.0
"""Rows after which old ones begin to fade, so that the scale can follow a drift."""
SCALE_MIN = 1e-3
LEFT_OUT = float(np.finfo(np.float32).max)
"""A deviation by which any value becomes 0 beside every other: how a feature is left out."""


class Scaling:
    """Mean and variance per feature, merged batch by batch in float64; NaN counts for nothing.

    Columns that are left out keep mean 0 and get the scale `LEFT_OUT`: what reads them by this
    scaling, learner and scorer alike, sees 0 whatever they hold.

    Source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm, 1979.
    """

    def __init__(self, n_features: int, left_out: Sequence[int] = ()) -> None:
        """Start from the prior, mean 0 and deviation 1; `left_out` are columns without meaning."""
        self._left_out = list(left_out)
        self.count = np.full(n_features, PRIOR_ROWS)
        self.mean = np.zeros(n_features)
        self.spread = np.full(n_features, PRIOR_ROWS)  # sum of squared distances from the mean

    def observe(self, X: NDArray[np.float32]) -> None:
        """Merge rows, shape (m, n_features)."""
        z = X.astype(np.float64)
        z = np.sign(z) * np.log1p(np.abs(z))
        z[:, self._left_out] = np.nan
        seen = ~np.isnan(z)
        count = seen.sum(axis=0).astype(np.float64)
        some = np.maximum(count, 1.0)
        mean = np.where(seen, z, 0.0).sum(axis=0) / some
        spread = np.where(seen, (z - mean) ** 2, 0.0).sum(axis=0)
        total = self.count + count
        apart = np.where(count > 0, mean - self.mean, 0.0)
        self.mean = self.mean + apart * count / total
        self.spread = self.spread + spread + apart**2 * self.count * count / total
        fade = np.minimum(1.0, MEMORY_ROWS / total)
        self.count = total * fade
        self.spread = self.spread * fade

    @property
    def scale(self) -> NDArray[np.float64]:
        """Standard deviation per feature, at least `SCALE_MIN`; `LEFT_OUT` for those left out."""
        scale = np.asarray(np.maximum(np.sqrt(self.spread / self.count), SCALE_MIN))
        scale[self._left_out] = LEFT_OUT
        return scale
