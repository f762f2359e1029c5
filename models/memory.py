"""labelled rows of a lane → what its learners may learn again: the newest, and frauds.

One memory serves all learners of a lane. Its owner appends a batch after every learner has learned
it, and keeps it in the checkpoint; learners only read.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.rehearsal import Ring

KEEP_ROWS = 200_000
KEEP_FRAUDS = 4_096


class Memory:
    """The newest labelled rows of a lane, and the newest frauds among all it ever held."""

    def __init__(
        self, n_features: int, keep_rows: int = KEEP_ROWS, keep_frauds: int = KEEP_FRAUDS
    ) -> None:
        """Make an empty memory; capacities are rounded up to whole pages of 256 rows."""
        self.rows = Ring("rows", keep_rows, n_features)
        self.frauds = Ring("frauds", keep_frauds, n_features)

    @property
    def memory_bytes(self) -> int:
        """Bytes reserved; constant."""
        return self.rows.memory_bytes + self.frauds.memory_bytes

    def append(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.uint8],
        w: NDArray[np.float32],
        ids: NDArray[np.uint64],
        at_ms: NDArray[np.int64],
    ) -> None:
        """Remember learned rows; shapes as in `models.learner.Rows`."""
        self.rows.append(X, y, ids, w, at_ms)
        fraud = y == 1
        self.frauds.append(X[fraud], y[fraud], ids[fraud], w[fraud], at_ms[fraud])

    def forget(self, ids: NDArray[np.uint64]) -> None:
        """Make rows of these identities weightless."""
        self.rows.forget(ids)
        self.frauds.forget(ids)

    def changed_pages(self) -> dict[str, bytes]:
        """Return the pages that changed since the last call, by name."""
        return self.rows.changed_pages() | self.frauds.changed_pages()

    def restore(self, parts: Mapping[str, bytes], rows_total: int, frauds_total: int) -> None:
        """Take pages back; the totals are kept by the owner's checkpoint."""
        self.rows.restore(parts, rows_total)
        self.frauds.restore(parts, frauds_total)
