"""vectors → the names of what each lacks."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MISSING_CACHE_MAX = 4_096


class MissingNames:
    """Remembers the patterns of late: most vectors lack what others lack."""

    def __init__(self, names: Sequence[str]) -> None:
        """Take the features' names, in vector order."""
        self._names = names
        self._known: dict[bytes, list[str]] = {}

    def of_many(self, X: NDArray[np.float32]) -> list[list[str]]:
        """Return the names of each vector's missing features; equal patterns share one list."""
        absent = np.isnan(X)
        packed = np.packbits(absent, axis=1)
        patterns, size = packed.tobytes(), packed.shape[1]
        known, found = self._known, []
        for row, at in enumerate(range(0, len(patterns), size)):
            pattern = patterns[at : at + size]
            names = known.get(pattern)
            if names is None:
                names = [self._names[i] for i in np.flatnonzero(absent[row]).tolist()]
                if len(known) < MISSING_CACHE_MAX:
                    known[pattern] = names
            found.append(names)
        return found
