"""labelled vectors on their way into a lane, before they are normalised."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.learner import Normalise, Rows


class Taught(NamedTuple):
    """Labelled vectors on their way into a lane; fields as in `models.learner.Rows`, without z."""

    X: NDArray[np.float32]
    y: NDArray[np.uint8]
    w: NDArray[np.float32]
    ids: NDArray[np.uint64]
    at_ms: NDArray[np.int64]

    def part(self, chosen: slice | NDArray[np.bool_]) -> "Taught":
        """Return some of the rows."""
        return Taught._make(column[chosen] for column in self)

    def beside(self, other: "Taught") -> "Taught":
        """Return the rows of both, these first."""
        return Taught(
            np.concatenate([self.X, other.X]),
            np.concatenate([self.y, other.y]),
            np.concatenate([self.w, other.w]),
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.at_ms, other.at_ms]),
        )

    def normalised(self, normalise: Normalise) -> Rows:
        """Return them as learners take them."""
        return Rows(self.X, normalise(self.X), self.y, self.w, self.ids, self.at_ms)

    @staticmethod
    def none(n_features: int) -> "Taught":
        """Return no rows."""
        return Taught(
            np.zeros((0, n_features), np.float32),
            np.zeros(0, np.uint8),
            np.zeros(0, np.float32),
            np.zeros(0, np.uint64),
            np.zeros(0, np.int64),
        )

    def state(self) -> list[bytes]:
        """Return the rows as bytes."""
        return [column.tobytes() for column in self]

    @staticmethod
    def restored(state: list[bytes], n_features: int) -> "Taught":
        """Take rows back."""
        X, y, w, ids, at_ms = state
        return Taught(
            np.frombuffer(X, np.float32).reshape(-1, n_features),
            np.frombuffer(y, np.uint8),
            np.frombuffer(w, np.float32),
            np.frombuffer(ids, np.uint64),
            np.frombuffer(at_ms, np.int64),
        )
