"""vectors as they are scored → a sample of the newest: what the next version is tried on."""

import threading

import numpy as np
from numpy.typing import NDArray

RECENT_ROWS = 256
BATCH_SAMPLE = 4
"""Rows taken of one batch at most, so that one large batch does not stand for all traffic."""


class Recent:
    """The newest sampled vectors of this process; memory is constant."""

    def __init__(self, n_features: int, rows: int = RECENT_ROWS) -> None:
        """Reserve the rows."""
        self._ring = np.zeros((rows, n_features), np.float32)
        self._seen = 0
        self._lock = threading.Lock()

    def observe(self, X: NDArray[np.float32]) -> None:
        """Take rows spread evenly over a batch, shape (m, n)."""
        step = max(1, len(X) // BATCH_SAMPLE)
        taken = X[::step][:BATCH_SAMPLE]
        rows = len(self._ring)
        with self._lock:
            for x in taken:
                self._ring[self._seen % rows] = x
                self._seen += 1

    def rows(self) -> NDArray[np.float32]:
        """Return a copy of what is held, in no particular order, shape (≤ rows, n)."""
        with self._lock:
            return self._ring[: self._seen].copy()
