"""one version of Weights, held still → Scores; and who reads it: nobody writes meanwhile."""

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.scorer import BUCKETS, BULK, Scores, bucket_for, percentiles_of
from models.walk import Walk

if TYPE_CHECKING:
    from models.weights import Weights


class Bank(ABC):
    """A place for versions. A new bank is being written; `open` lets it be read.

    Implementations: `bank_walk.WalkBank` on a processor, `bank_torch.TorchBank` on any device.

    Attributes:
        readers: Leases that hold it; while there are any it is not written.
        content: What may be read: a version, and the SHA-256 of its bytes.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.readers = 0
        self.content: tuple[Weights, str] | None = None
        self._counting = threading.Lock()
        self._walk: Walk | None = None
        self._walk_before: Walk | None = None

    @abstractmethod
    def fits(self, weights: "Weights") -> bool:
        """Whether the version can be written here without room of other shapes."""

    @abstractmethod
    def _take(self, weights: "Weights") -> None:
        """Get ready to answer with a version."""

    @abstractmethod
    def _logit_of_bucket(self, X: NDArray[np.float32], bucket: int) -> NDArray[np.float32]:
        """Return log-odds, shape (at least m,), of m rows, at most `bucket`."""

    @abstractmethod
    def logit_apart(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return log-odds, shape (m,), while others may be scoring; in no bucket."""

    @property
    def version(self) -> int:
        """Number of the version that may be read; 0: none."""
        return 0 if self.content is None else self.content[0].version

    def hold(self, weights: "Weights") -> bool:
        """Keep the bank from being written, if it still holds this version."""
        with self._counting:
            held = self.content is not None and self.content[0] is weights
            self.readers += held
            return held

    def let_go(self) -> None:
        """End a hold."""
        with self._counting:
            self.readers -= 1

    def begin_writing(self) -> bool:
        """Close the bank, if nobody reads it."""
        with self._counting:
            if self.readers:
                return False
            self.content = None
            return True

    def write(self, weights: "Weights") -> None:
        """Take a version into a closed bank; to be called while staging."""
        self._quantiles = weights.arrays["quantiles"].astype(np.float64)
        self._written = weights
        self._walk_before, self._walk = self._walk or self._walk_before, None
        self._take(weights)

    def open(self, weights: "Weights", sha256: str) -> None:
        """Let the version that was written be read."""
        self.content = weights, sha256

    @property
    def walk(self) -> Walk:
        """The version that was written, laid out for a processor; made when first asked for."""
        if self._walk is None:
            self._walk = Walk(self._written, self._walk_before)
        return self._walk

    def score_many(self, X: NDArray[np.float32], bucket: int | None = None) -> Scores:
        """Score vectors in slices of at most the largest bucket; see `scorer.Snapshot`."""
        assert bucket is None or bucket in BUCKETS or bucket == BULK, f"no bucket of {bucket}"
        rows = X.shape[0]
        logit = np.empty(rows, np.float32)
        buckets = np.empty(rows, np.uint16)
        step = bucket or BUCKETS[-1]
        for start in range(0, rows, step):
            part = X[start : start + step]
            size = bucket or bucket_for(len(part))
            logit[start : start + step] = self._logit_of_bucket(part, size)[: len(part)]
            buckets[start : start + step] = size
        p = 1.0 / (1.0 + np.exp(-logit.astype(np.float64)))
        return Scores(logit, p, percentiles_of(p, self._quantiles), buckets)
