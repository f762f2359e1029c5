"""decided vectors, by event-day → how far each feature's distribution has moved (PSI).

The day that ended is held against the days before it. Whole days, so that an hour of the night is
not compared with a week; so this speaks once per event-day, and ADWIN for what is faster.

PSI = Σ over bins (now - before)·ln(now / before). Bins lie between quantiles of the days before;
a missing value is a bin of its own. 0.1 is usually called a small shift, 0.25 a large one.
Source: Siddiqi, Credit Risk Scorecards, 2006, chapter 6.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
SAMPLE_ROWS = 1_024
"""Rows kept of a day: the PSI of two samples of one distribution is about bins·2/rows = 0.02."""
DAYS = 8
"""Days kept: the one that grows and those before."""
BINS = 10
SHARE_MIN = 0.5
"""Rows that an empty bin counts as: keeps the logarithm finite."""
PAGE_ROWS = 128
ROWS_MIN = 256
"""A day, or all days before, with fewer rows says nothing."""


class _Core(msgspec.Struct):
    day: int
    counts: list[int]
    values: list[float]
    late: int


class Psi:
    """A sample of each of the newest days, and the figures of the last day that ended.

    Sampling is by a hash of a row's number within its day: the same rows in the same order give
    the same figures. Rows of a day that has ended are left out, and counted in `late`.
    """

    def __init__(self, n_features: int) -> None:
        """Reserve the samples; nothing is known until two days have ended."""
        self._n = n_features
        self._reset()

    def _reset(self) -> None:
        n_features = self._n
        self._sample = np.full((DAYS, SAMPLE_ROWS, n_features), np.nan, np.float32)
        self._dirty: set[tuple[int, int]] = set()
        self._day = -1
        self._counts = [0] * DAYS
        self.values = np.full(n_features, np.nan)
        self.late = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes reserved; constant."""
        return self._sample.nbytes

    def observe(self, X: NDArray[np.float32], at_ms: NDArray[np.int64]) -> bool:
        """Take rows, shape (m, n); return whether a day ended, and `values` are new."""
        days = at_ms // DAY_MS
        turned = False
        first = 0
        for end in [*(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]:
            if first < end:
                turned |= self._observe_day(X[first:end], int(days[first]))
            first = end
        return turned

    def state_changes(self) -> dict[str, bytes]:
        """Return the pages that changed since the last call, and the rest, by name."""
        core = _Core(self._day, self._counts, [float(v) for v in self.values], self.late)
        parts = {"core": msgspec.msgpack.encode(core)}
        for slot, page in sorted(self._dirty):
            rows = self._sample[slot, page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
            parts[f"{slot}/{page}"] = rows.tobytes()
        self._dirty.clear()
        return parts

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the one whose parts these are; no parts: a new one."""
        self._reset()
        if "core" not in parts:
            return
        core = msgspec.msgpack.decode(parts["core"], type=_Core)
        self._day, self._counts, self.late = core.day, core.counts, core.late
        self.values = np.array(core.values)
        for name, body in parts.items():
            if name != "core":
                slot, page = map(int, name.split("/"))
                rows = np.frombuffer(body, np.float32).reshape(-1, self._n)
                self._sample[slot, page * PAGE_ROWS : (page + 1) * PAGE_ROWS] = rows

    def _observe_day(self, X: NDArray[np.float32], day: int) -> bool:
        turned = False
        if day < self._day:
            self.late += len(X)
            return False
        if day > self._day:
            turned = self._turn(day)
        slot = day % DAYS
        seen = self._counts[slot]
        numbers = np.arange(seen, seen + len(X), dtype=np.uint64)
        places = numbers.astype(np.int64)
        full = numbers >= SAMPLE_ROWS
        places[full] = (_mixed(numbers[full] + np.uint64(day << 32)) % (numbers[full] + 1)).astype(
            np.int64
        )
        kept = np.flatnonzero(places < SAMPLE_ROWS)
        # of several rows for one place the last one stays: numpy assigns in order
        self._sample[slot, places[kept]] = X[kept]
        self._dirty.update((slot, page) for page in np.unique(places[kept] // PAGE_ROWS).tolist())
        self._counts[slot] = seen + len(X)
        return turned

    def _turn(self, day: int) -> bool:
        """End the current day; forget days that are too old; return whether figures are new."""
        turned = False
        if self._day >= 0:
            now = self._rows_of(self._day)
            others = [self._rows_of(self._day - back) for back in range(1, DAYS)]
            before = np.concatenate(others)
            if len(now) >= ROWS_MIN and len(before) >= ROWS_MIN:
                self.values = psi(before, now)
                turned = True
        for gone in range(self._day + 1, day + 1) if day - self._day < DAYS else range(DAYS):
            self._counts[gone % DAYS] = 0
        self._day = day
        return turned

    def _rows_of(self, day: int) -> NDArray[np.float32]:
        """Return the sample of a day that is among the newest `DAYS`."""
        slot = day % DAYS
        return self._sample[slot, : min(self._counts[slot], SAMPLE_ROWS)]


def psi(
    before: NDArray[np.float32], now: NDArray[np.float32], bins: int = BINS
) -> NDArray[np.float64]:
    """Return the population stability index per feature, shape (n,); rows of shape (m, n).

    A feature that takes few values has fewer bins: quantiles that coincide are one edge.
    """
    n = before.shape[1]
    values = np.zeros(n)
    for column in range(n):
        edges = _edges(before[:, column], bins)
        was = _shares(before[:, column], edges)
        is_now = _shares(now[:, column], edges)
        values[column] = float(np.sum((is_now - was) * np.log(is_now / was)))
    return values


def _edges(values: NDArray[np.float32], bins: int) -> NDArray[np.float32]:
    """Return upper edges of all bins but the last: quantiles that occurred."""
    present = np.sort(values[~np.isnan(values)])
    if not len(present):
        return present
    places = (np.arange(1, bins) * len(present)) // bins
    return np.unique(present[places])


def _shares(values: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of each bin: those between the edges, and that of missing values last."""
    missing = np.isnan(values)
    places = np.searchsorted(edges, values[~missing], side="left")
    counts = np.bincount(places, minlength=len(edges) + 1).astype(np.float64)
    counts = np.maximum(np.append(counts, missing.sum()), SHARE_MIN)
    return np.asarray(counts / counts.sum())


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return SplitMix64's finaliser of each number. Source: Steele, Lea, Flood, OOPSLA 2014."""
    with np.errstate(over="ignore"):
        z = numbers + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
