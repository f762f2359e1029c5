"""decided events → what they look like: scores' quantiles, and a probe to compare versions on.

Both are seen, not learned from. The probe is a fixed set of real vectors: versions move on it, and
it moves only when its time is over, so that a difference between versions is the versions' own.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from models.learner import Category, Space

KEEP_SCORES = 20_000
QUANTILES = 1001
PROBE_ROWS = 256
PROBE_RENEW_MS = 86_400_000


class _Scores(msgspec.Struct):
    newest: bytes
    total: int


class _Probe(msgspec.Struct):
    rows: bytes
    real: bool


class _Drawn(msgspec.Struct):
    rows: bytes
    hashes: bytes
    since_ms: int


class Observed:
    """The newest scores, the probe in use, and a reservoir from which the next one comes."""

    def __init__(self, space: Space, seed: int, probe_renew_ms: int = PROBE_RENEW_MS) -> None:
        """Begin with a drawn probe, since a version is compared on something from the first on."""
        self._n = space.n
        self._seed = seed
        self._renew_ms = probe_renew_ms
        self._first = _drawn(space, seed)
        self._reset()

    def _reset(self) -> None:
        self._scores = np.zeros(KEEP_SCORES, np.float32)
        self._total = 0
        self.probe = self._first
        self._real = False
        self._rows = np.zeros((0, self._n), np.float32)
        self._hashes = np.zeros(0, np.uint64)
        self._since_ms = 0
        self._changed = {"probe", "drawn", "scores"}

    def observe_many(self, X: NDArray[np.float32], p: NDArray[np.float64]) -> None:
        """See vectors, shape (m, n), and the probabilities they were given; NaN = none."""
        scored = p[~np.isnan(p)][-KEEP_SCORES:]
        if len(scored):
            places = np.arange(self._total, self._total + len(scored)) % KEEP_SCORES
            self._scores[places] = scored
            self._total += len(scored)
            self._changed.add("scores")
        self._draw(X)
        if not self._real and len(self._rows) == PROBE_ROWS:
            self._renew()

    def advance(self, clock_ms: int) -> None:
        """Hear the event time; renews the probe when it is over."""
        if self._since_ms == 0:
            self._since_ms = clock_ms
            self._changed.add("drawn")
        elif self._real and clock_ms - self._since_ms >= self._renew_ms:
            self._since_ms = clock_ms
            if len(self._rows) == PROBE_ROWS:
                self._renew()

    def quantiles(self) -> NDArray[np.float32]:
        """Return the scores at 0, 0.1, … 100 % of the newest ones; a straight line before any."""
        held = min(self._total, KEEP_SCORES)
        steps = np.linspace(0.0, 1.0, QUANTILES)
        if not held:
            return steps.astype(np.float32)
        return np.quantile(self._scores[:held], steps, method="lower").astype(np.float32)

    def state_changes(self) -> dict[str, bytes]:
        """Return the parts that changed since the last call."""
        made: dict[str, msgspec.Struct] = {
            "scores": _Scores(self._scores.tobytes(), self._total),
            "probe": _Probe(self.probe.tobytes(), self._real),
            "drawn": _Drawn(self._rows.tobytes(), self._hashes.tobytes(), self._since_ms),
        }
        parts = {name: msgspec.msgpack.encode(made[name]) for name in sorted(self._changed)}
        self._changed.clear()
        return parts

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take parts back; none: as new."""
        self._reset()
        if not parts:
            return
        self._changed.clear()
        scores = msgspec.msgpack.decode(parts["scores"], type=_Scores)
        probe = msgspec.msgpack.decode(parts["probe"], type=_Probe)
        drawn = msgspec.msgpack.decode(parts["drawn"], type=_Drawn)
        self._scores = np.frombuffer(scores.newest, np.float32).copy()
        self._total = scores.total
        self.probe = np.frombuffer(probe.rows, np.float32).reshape(-1, self._n)
        self._real = probe.real
        self._rows = np.frombuffer(drawn.rows, np.float32).reshape(-1, self._n)
        self._hashes = np.frombuffer(drawn.hashes, np.uint64)
        self._since_ms = drawn.since_ms

    def _draw(self, X: NDArray[np.float32]) -> None:
        """Keep the rows of the smallest hashes: a uniform draw that no order of rows changes."""
        hashes = np.fromiter(
            (xxhash.xxh3_64_intdigest(row.tobytes(), self._seed) for row in X), np.uint64, len(X)
        )
        full = len(self._rows) == PROBE_ROWS
        low = np.flatnonzero(hashes < self._hashes[-1]) if full else np.arange(len(X))
        if not len(low):
            return
        every, first = np.unique(np.concatenate([self._hashes, hashes[low]]), return_index=True)
        rows = np.concatenate([self._rows, X[low].astype(np.float32)])
        self._hashes, self._rows = every[:PROBE_ROWS], rows[first[:PROBE_ROWS]]
        self._changed.add("drawn")

    def _renew(self) -> None:
        self.probe, self._real = self._rows, True
        self._rows, self._hashes = self._rows[:0], self._hashes[:0]
        self._changed |= {"probe", "drawn"}


def _drawn(space: Space, seed: int) -> NDArray[np.float32]:
    draws = np.random.Generator(np.random.Philox(key=[seed, 0]))
    rows = draws.lognormal(0.0, 1.0, (PROBE_ROWS, space.n)).astype(np.float32)
    for category in space.categories:
        rows[:, category.column] = _indices(category, draws)
    return rows


def _indices(category: Category, draws: np.random.Generator) -> NDArray[np.float32]:
    return draws.integers(0, category.size, PROBE_ROWS).astype(np.float32)
