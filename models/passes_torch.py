"""rows in, log-odds out, in batches of fixed sizes, always at the same addresses."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from models.engine_torch import Engine, Work
from models.scorer import BUCKETS

PAIR_ROWS = 4
"""Rows that a bucket of 2 is computed with: some matrix libraries take the two rows of a pair by
code of their own each, so that a row's last bits depended on its place (seen: MKL 2024.2 on AVX2).
"""

Compute = Callable[[torch.Tensor, torch.Tensor], None]
"""Vectors, shape (m, n) → log-odds, written into the second tensor, shape (m,)."""


class Passes:
    """One pass for each bucket. Not for two threads at once."""

    def __init__(self, engine: Engine, n_features: int, compute: Compute) -> None:
        """Reserve what every pass reads and writes; nothing is recorded yet."""
        self._engine = engine
        self._n = n_features
        self._compute = compute
        self._passes: dict[int, _Pass] = {}

    def record(self) -> None:
        """Make all passes ready that answers need; to be called while staging."""
        for bucket in BUCKETS:
            self._pass(bucket)

    def forget(self) -> None:
        """Drop what was recorded: the work itself has changed."""
        self._passes.clear()

    def run(self, X: NDArray[np.float32], bucket: int) -> NDArray[np.float32]:
        """Return log-odds of at most `bucket` rows; the array is overwritten by the next run."""
        found = self._passes.get(bucket)
        if found is None:
            with self._engine.staging():
                found = self._pass(bucket)
        found.fill(X)
        found.work()
        self._engine.finish()
        return found.answers

    def _pass(self, bucket: int) -> "_Pass":
        if bucket not in self._passes:
            rows = PAIR_ROWS if bucket == 2 else bucket
            self._passes[bucket] = _Pass(self._engine, rows, self._n, self._compute)
        return self._passes[bucket]


class _Pass:
    """A pass of one size: buffers, and the recorded work between them."""

    def __init__(self, engine: Engine, rows: int, n: int, compute: Compute) -> None:
        self._x = torch.zeros((rows, n), dtype=torch.float32, device=engine.device)
        self._out = torch.zeros(rows, dtype=torch.float32, device=engine.device)
        self._x_host, self._out_host = engine.host(self._x), engine.host(self._out)
        self._compute = compute
        self._given: NDArray[np.float32] = self._x_host.numpy()
        self._filled = 0
        self.answers: NDArray[np.float32] = self._out_host.numpy()
        self.work: Work = engine.record(self._run)

    def fill(self, X: NDArray[np.float32]) -> None:
        """Put rows in, and zeros where the last ones were more."""
        rows = len(X)
        self._given[:rows] = X
        if rows < self._filled:
            self._given[rows : self._filled] = 0.0
        self._filled = rows

    def _run(self) -> None:
        if self._x is not self._x_host:
            self._x.copy_(self._x_host, non_blocking=True)
        self._compute(self._x, self._out)
        if self._out is not self._out_host:
            self._out_host.copy_(self._out, non_blocking=True)
