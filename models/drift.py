"""a stream of numbers → whether their mean has changed: the port behind which detectors stand."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec


class DriftFound(NamedTuple):
    """A detector's finding.

    Attributes:
        before: Mean that held until then.
        after: The value that gave it away.
    """

    before: float
    after: float


class DriftDetector(Protocol):
    """Watches one stream; bounded in memory.

    Implementation: `drift_river.Adwin`.
    """

    def update_many(self, values: Sequence[float]) -> list[DriftFound]:
        """Take values in [0, 1], in order; return what was found, in order."""

    @property
    def mean(self) -> float:
        """Mean of the values that still count; 0 for none."""

    @property
    def width(self) -> int:
        """How many values still count."""

    def dumps(self) -> bytes:
        """Return all that it knows."""

    def loads(self, state: bytes) -> None:
        """Go on from a state.

        Raises:
            StateMismatch: It is not one of this build's detector.
        """


DetectorFactory = Callable[[float], DriftDetector]
"""Level of significance → a new detector."""


class BlockState(msgspec.Struct):
    """A watched stream between two checkpoints."""

    detector: bytes
    total: float
    count: int
    found: int


class Watched:
    """A stream of which means over blocks are looked at: neighbouring events are no accident."""

    def __init__(self, detector: DriftDetector, block_rows: int) -> None:
        """Take a new detector; a block of one row is the stream itself."""
        self._detector = detector
        self._block_rows = block_rows
        self._total = 0.0
        self._count = 0
        self.found = 0

    @property
    def mean(self) -> float:
        """Mean of the rows that still count, in whole blocks."""
        return self._detector.mean

    @property
    def width(self) -> int:
        """Rows that still count."""
        return self._detector.width * self._block_rows

    def update_many(self, values: Sequence[float]) -> list[DriftFound]:
        """Take values in [0, 1], in order; return what was found, in order."""
        if self._block_rows > 1:
            values = self._blocks_of(values)
        findings = self._detector.update_many(values)
        self.found += len(findings)
        return findings

    def state(self) -> BlockState:
        """Return all that it knows."""
        return BlockState(self._detector.dumps(), self._total, self._count, self.found)

    def restore(self, state: BlockState) -> None:
        """Go on from a state; see `DriftDetector.loads`."""
        self._detector.loads(state.detector)
        self._total, self._count, self.found = state.total, state.count, state.found

    def _blocks_of(self, values: Sequence[float]) -> list[float]:
        means = []
        for value in values:
            self._total += value
            self._count += 1
            if self._count == self._block_rows:
                means.append(self._total / self._count)
                self._total, self._count = 0.0, 0
        return means
