"""Who goes along with a learning step: a guard, a cap on influence, who judges and writes down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.judge_arms import ArmJudge
from pipeline.judged import JudgeSink


class Guard(Protocol):
    """Who watches for drift; `models.guard.Guard`."""

    def observe_decided(
        self, X: NDArray[np.float32], p: NDArray[np.float64], at_ms: NDArray[np.int64]
    ) -> None:
        """See decided vectors, shape (m, n), their scores (NaN: none) and event times."""

    def observe_judged(
        self, lane: str, y: NDArray[np.uint8], p: NDArray[np.float64], at_ms: NDArray[np.int64]
    ) -> None:
        """See what became known of scored events, by lane."""

    def observe_labels(
        self, counts: Mapping[str, int], frauds: Mapping[str, int], clock_ms: int
    ) -> None:
        """See how many net labels came, and how many of them frauds, by source."""

    def reaction(self, clock_ms: int) -> float:
        """Return the pace at which to learn: 1 as usual, above after drift."""

    def figures(self) -> dict[str, float]:
        """Return what a version's metrics should say of it."""

    def state_changes(self) -> dict[str, bytes]:
        """Return the named parts of its state that changed since the last call."""

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take them back; none: as new."""


class Influence(Protocol):
    """Who bounds what one source or entity can teach in a version; `models.influence.Influence`."""

    def admit(
        self,
        sources: Sequence[str],
        cards: NDArray[np.int64],
        w: NDArray[np.float32],
    ) -> NDArray[np.bool_]:
        """Return which rows may be learned; source "" is silence, card 0 none: never refused."""

    def close_version(self) -> None:
        """Hear that a version was cut: the next one has its own measure."""

    def state_changes(self) -> dict[str, bytes]:
        """Return the named parts of its state that changed since the last call."""

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Take them back; none: as new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Company:
    """Those who go along; each may be absent."""

    guard: Guard | None = None
    influence: Influence | None = None
    sink: JudgeSink | None = None
    arms: ArmJudge | None = None

    def restore(self, guard: Mapping[str, bytes], influence: Mapping[str, bytes]) -> None:
        """Give each its parts of a checkpoint."""
        if self.guard is not None:
            self.guard.restore(guard)
        if self.influence is not None:
            self.influence.restore(influence)

    def state_changes(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Return the changed parts of the guard, and those of the cap on influence."""
        guard = self.guard.state_changes() if self.guard is not None else {}
        return guard, self.influence.state_changes() if self.influence is not None else {}

    def figures(self) -> dict[str, float]:
        """Return what a version's metrics say of them."""
        return self.guard.figures() if self.guard is not None else {}

    def close_version(self) -> None:
        """Let the next version begin."""
        if self.influence is not None:
            self.influence.close_version()
