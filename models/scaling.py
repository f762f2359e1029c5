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
CLAMP = np.float32(8.0)


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


class Normaliser:
    """Vectors → what networks and linear members see, by the scaling as it stands.

    The same formula, in float32, as the forward pass of scorers (`models/forward_torch.py`):
    signed logarithm, standardised, NaN → 0, clamped to ±8.
    """

    def __init__(self, n_features: int, left_out: Sequence[int] = ()) -> None:
        """Start from the prior; `left_out` are columns that are no quantities."""
        self._scaling = Scaling(n_features, left_out)
        self._left_out = list(left_out)

    def observe(self, X: NDArray[np.float32]) -> None:
        """Merge rows, shape (m, n_features)."""
        self._scaling.observe(X)

    @property
    def mean(self) -> NDArray[np.float32]:
        """Mean per feature on the signed logarithmic scale; a copy."""
        return self._scaling.mean.astype(np.float32)

    @property
    def scale(self) -> NDArray[np.float32]:
        """Deviation per feature; a copy."""
        return self._scaling.scale.astype(np.float32)

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return z, float32, shape (m, n_features): no NaN, within ±8."""
        z = (np.sign(X) * np.log1p(np.abs(X)) - self.mean) / self.scale
        z = np.clip(np.where(np.isnan(z), np.float32(0), z), -CLAMP, CLAMP).astype(np.float32)
        z[:, self._left_out] = 0.0  # and not the denormal that the formula makes of it
        return z

    def state(self) -> bytes:
        """Return all that it knows."""
        scaling = self._scaling
        return b"".join(part.tobytes() for part in (scaling.count, scaling.mean, scaling.spread))

    def restore(self, state: bytes) -> None:
        """Take a state of as many features back."""
        count, mean, spread = np.frombuffer(state).reshape(3, -1).copy()
        self._scaling.count, self._scaling.mean, self._scaling.spread = count, mean, spread
