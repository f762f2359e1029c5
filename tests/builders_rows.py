"""Labelled rows, and the context in which a learner of the torch kind learns them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.learner import Category, Context, Rows, Space
from models.memory import Memory

N = 6
DIGEST = "e" * 64


def a_space(n: int = N, digest: str = DIGEST, categories: tuple[Category, ...] = ()) -> Space:
    return Space(digest, tuple(f"f{i}" for i in range(n)), categories)


def normalised(X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Signed logarithm about a mean of 3: a normaliser that stands still."""
    z = np.sign(X) * np.log1p(np.abs(X)) - 3.0
    return np.clip(np.where(np.isnan(z), 0.0, z), -8.0, 8.0).astype(np.float32)


def some_rows(count: int, seed: int = 0, n: int = N, at_ms: int = 0) -> Rows:
    """Frauds have a large first feature; a tenth of all other values is missing."""
    draws = np.random.default_rng(seed)
    X = draws.lognormal(3, 1, (count, n)).astype(np.float32)
    y = (X[:, 0] > 60).astype(np.uint8)
    X[:, 1:][draws.random((count, n - 1)) < 0.1] = np.nan
    ids = draws.integers(0, 2**63, count).astype(np.uint64)
    at = np.arange(at_ms, at_ms + count, dtype=np.int64)
    return Rows(X, normalised(X), y, np.ones(count, np.float32), ids, at)


@dataclass
class LaneOf:
    """A lane with one learner: what the ensemble does around it."""

    n: int = N
    seed: int = 1
    lane: str = "delayed"
    digest: str = DIGEST
    categories: tuple[Category, ...] = ()
    options: dict[str, float | int | str] = field(default_factory=dict)
    keep_rows: int = 2048
    keep_frauds: int = 512

    def __post_init__(self) -> None:
        self.memory = Memory(self.n, self.keep_rows, self.keep_frauds)

    @property
    def context(self) -> Context:
        space = a_space(self.n, self.digest, self.categories)
        columns = [category.column for category in self.categories]

        def normalise(X: NDArray[np.float32]) -> NDArray[np.float32]:
            z = normalised(X)
            z[:, columns] = 0.0
            return z

        return Context(space, self.lane, self.seed, self.memory, normalise, self.options)

    def remember(self, rows: Rows) -> None:
        self.memory.append(rows.X, rows.y, rows.w, rows.ids, rows.at_ms)
