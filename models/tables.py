"""category indices → embeddings, learned row by row: rows that nobody looked at are not touched.

Tables may be large (millions of rows), so a step costs what it looked up, a checkpoint holds the
pages that changed, and a snapshot says which rows did.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.learner import Category

PAGE_ROWS = 1024
EPSILON = 1e-8


class Table:
    """One category's embeddings, float32, shape (size, width); they begin at 0: no opinion."""

    def __init__(self, category: Category, width: int) -> None:
        """Make a table that knows nothing."""
        self._category = category
        self.values = np.zeros((category.size, width), np.float32)
        self._squares = np.zeros((category.size, width), np.float32)
        self._changed: NDArray[np.bool_] | None = None  # None: unknown, compare them all
        self._dirty: set[int] = set()

    @property
    def name(self) -> str:
        """Name of the array in a part."""
        return f"embed.{self._category.column}"

    @property
    def memory_bytes(self) -> int:
        """Bytes reserved; constant."""
        return self.values.nbytes + self._squares.nbytes + self._category.size

    def indices(self, X: NDArray[np.float32]) -> NDArray[np.int64]:
        """Return the row of each vector's category; what is missing or out of range is row 0."""
        found = X[:, self._category.column]
        known = (found >= 0) & (found < self._category.size)  # false for NaN
        return np.where(known, found, 0.0).astype(np.int64)

    def learn(self, indices: NDArray[np.int64], slope: NDArray[np.float32], rate: float) -> None:
        """Take an AdaGrad step in the rows looked up; slope has shape (m, width)."""
        rows, place = np.unique(indices, return_inverse=True)
        summed = np.zeros((len(rows), slope.shape[1]), np.float32)
        np.add.at(summed, place, slope)
        squares = self._squares[rows] + summed * summed
        self._squares[rows] = squares
        self.values[rows] -= rate * summed / (np.sqrt(squares) + EPSILON)
        self._dirty.update((rows // PAGE_ROWS).tolist())
        if self._changed is not None:
            self._changed[rows] = True

    def take_changed(self) -> NDArray[np.int64] | None:
        """Return the rows changed since the last call; None where that is not known."""
        before, self._changed = self._changed, np.zeros(len(self.values), np.bool_)
        return None if before is None else np.flatnonzero(before)

    def changed_pages(self) -> dict[str, bytes]:
        """Return the pages that changed since the last call, by name."""
        found = {}
        for page in sorted(self._dirty):
            rows = slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS)
            both = np.stack([self.values[rows], self._squares[rows]])
            found[f"{self.name}/{page}"] = both.tobytes()
        self._dirty.clear()
        return found

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take pages back; what has none has never been learned.

        Raises:
            ValueError: A page has another size.
        """
        for page in range(-(-len(self.values) // PAGE_ROWS)):
            body = parts.get(f"{self.name}/{page}")
            if body is not None:
                rows = slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS)
                shape = (2, *self.values[rows].shape)
                both = np.frombuffer(body, np.float32).reshape(shape)
                self.values[rows], self._squares[rows] = both


def look_up(tables: Sequence[Table], X: NDArray[np.float32]) -> list[NDArray[np.int64]]:
    """Return, for each table, the rows that these vectors look up."""
    return [table.indices(X) for table in tables]
