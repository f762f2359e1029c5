"""a member's arrays, vectors → log-odds, all numpy: the scorers' forward pass for the learner."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from models.forward_torch import forward, scaled
from models.weights import Array


class TorchFormula:
    """`slew.Formula` on a CPU core, by the code that scorers run."""

    def scaled(self, x: NDArray[np.float32], mean: Array, scale: Array) -> NDArray[np.float32]:
        """Return z, shape (m, n)."""
        return np.asarray(scaled(_tensor(x), _tensor(mean), _tensor(scale)).numpy())

    def forward(
        self,
        kind: str,
        arrays: Mapping[str, Array],
        x: NDArray[np.float32],
        z: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return a member's log-odds, shape (m,), before ln β; arrays by their short names."""
        tensors = {name: _tensor(array) for name, array in arrays.items()}
        return np.asarray(forward(kind, tensors, _tensor(x), _tensor(z)).numpy())


def _tensor(array: Array) -> torch.Tensor:
    """Copy: published arrays are read-only, which torch cannot promise to respect."""
    return torch.tensor(array)
