"""a bank on a processor: compiled kernels over the version's arrays, no tensor library.

Rows are worked off one by one, so that a row's bits depend on no bucket; it is named all the same.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.bank import Bank

if TYPE_CHECKING:
    from models.weights import Weights


class WalkBank(Bank):
    """Answers on the calling thread; any number of threads at once."""

    def fits(self, weights: "Weights") -> bool:
        """Whether the version can be written here: always, the arrays are its own."""
        return True

    def logit_apart(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return log-odds, shape (m,); see `Bank`."""
        return self.walk.logit_many(X).astype(np.float64)

    def _take(self, weights: "Weights") -> None:
        assert self.walk, "laid out now, not when somebody waits"

    def _logit_of_bucket(self, X: NDArray[np.float32], bucket: int) -> NDArray[np.float32]:
        return self.walk.logit_many(X)
