"""labelled rows → a bounded ring of the newest ones, to learn again beside new ones.

A ring in memory, handed to the checkpoint page by page: appending touches few pages, so a
checkpoint each second writes what is new and not the whole memory.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

PAGE_ROWS = 256


class Ring:
    """The newest `capacity` rows, each a vector with its label and identity hash."""

    def __init__(self, name: str, capacity: int, n_features: int) -> None:
        """Make an empty ring.

        Args:
            name: First part of its pages' names.
            capacity: Rows kept, rounded up to whole pages.
            n_features: Length of a vector.
        """
        pages = -(-capacity // PAGE_ROWS)
        row = np.dtype(
            [
                ("id", "<u8"),
                ("at_ms", "<i8"),
                ("w", "<f4"),
                ("y", "u1"),
                ("live", "u1"),
                ("x", "<f4", (n_features,)),
            ]
        )
        self._name = name
        self._rows = np.zeros(pages * PAGE_ROWS, row)
        self._dirty: set[int] = set()
        self.total = 0

    @property
    def size(self) -> int:
        """Rows held."""
        return min(self.total, len(self._rows))

    @property
    def fraud_rate(self) -> float:
        """Share of frauds among the rows held; 0 without rows."""
        return float(self._rows["y"][: self.size].sum()) / max(self.size, 1)

    @property
    def memory_bytes(self) -> int:
        """Bytes reserved; constant."""
        return self._rows.nbytes

    def append(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.uint8],
        ids: NDArray[np.uint64],
        w: NDArray[np.float32] | float = 1.0,
        at_ms: NDArray[np.int64] | int = 0,
    ) -> None:
        """Add rows; the oldest leave."""
        keep = min(len(y), len(self._rows))
        first = self.total + len(y) - keep
        slots = np.arange(first, first + keep) % len(self._rows)
        tail = slice(len(y) - keep, None)
        self._rows["id"][slots] = ids[tail]
        self._rows["y"][slots] = y[tail]
        self._rows["live"][slots] = 1
        self._rows["w"][slots] = w if isinstance(w, float) else w[tail]
        self._rows["at_ms"][slots] = at_ms if isinstance(at_ms, int) else at_ms[tail]
        self._rows["x"][slots] = X[tail]
        self.total += len(y)
        self._dirty.update((slots // PAGE_ROWS).tolist())

    def forget(self, ids: NDArray[np.uint64]) -> None:
        """Make rows of these identities weightless; they keep their place until they leave."""
        size = self.size
        slots = np.flatnonzero(np.isin(self._rows["id"][:size], ids) & self._rows["live"][:size])
        self._rows["live"][slots] = 0
        self._dirty.update((slots // PAGE_ROWS).tolist())

    def take(
        self, slots: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return copies of X, y and live (0 = forgotten) of rows by place, below `size`."""
        rows = self._rows[slots]
        return rows["x"].copy(), rows["y"].copy(), rows["live"].copy()

    def held(self, slots: NDArray[np.int64]) -> NDArray[np.void]:
        """Return copies of whole rows by place: fields id, at_ms, w, y, live, x."""
        return self._rows[slots]

    def ages(self, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return how many rows were appended after each of these; -1 for one that is not held."""
        order = np.argsort(self._rows["id"][: self.size], kind="stable")
        held = self._rows["id"][order]
        place = np.searchsorted(held, ids, side="right") - 1
        slot = order[np.maximum(place, 0)] if self.size else np.zeros(len(ids), np.int64)
        found = (place >= 0) & (self._rows["id"][slot] == ids)
        return np.where(found, (self.total - 1 - slot) % len(self._rows), -1)

    def slots(self, first: int, last: int) -> NDArray[np.int64]:
        """Return the places of the rows numbered [first, last) since the start, oldest first.

        Rows that have left are left out.
        """
        oldest = self.total - self.size
        return np.arange(max(first, oldest), max(last, oldest)) % len(self._rows)

    def changed_pages(self) -> dict[str, bytes]:
        """Return the pages that changed since the last call, by name."""
        pages = {
            f"{self._name}/{page}": self._rows[page * PAGE_ROWS : (page + 1) * PAGE_ROWS].tobytes()
            for page in sorted(self._dirty)
        }
        self._dirty.clear()
        return pages

    def restore(self, parts: Mapping[str, bytes], total: int) -> None:
        """Take pages back.

        Raises:
            ValueError: A page has another size: other vectors or another code.
        """
        self._rows = np.zeros(len(self._rows), self._rows.dtype)  # not touched until it is needed
        self._dirty.clear()
        self.total = total
        for page in range(len(self._rows) // PAGE_ROWS):
            body = parts.get(f"{self._name}/{page}")
            if body is not None:
                place = slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS)
                self._rows[place] = np.frombuffer(body, self._rows.dtype)
