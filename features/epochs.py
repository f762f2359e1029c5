"""feature spec → the epochs of the store that hold its features: one of them lives, for each spec.

Each spec's digest has a pointer of its own, so old and new features are kept side by side. Epochs
are numbered over all specs, and no number is given twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from features.store import Pointer, StoreError

QUIET_S = 60.0
"""An epoch without a commit for so long has no writer: a worker commits every few seconds."""

EpochState = Literal["alive", "filling", "left", "gone"]


class EpochInUse(StoreError):
    """Somebody still writes what was to be retired."""


class EpochKept(Pointer, frozen=True):
    """What the store remembers of an epoch, for as long as the store lasts.

    Attributes:
        gone: Its features were dropped; the number stays taken, so that no late writer revives it.
    """

    gone: bool = False


@dataclass(frozen=True, slots=True)
class EpochInfo:
    """One epoch, as an operator sees it.

    Attributes:
        state: `alive` (readers of its spec follow it), `filling` (by `riskbeat rebuild`, or left
            unfinished by it), `left` (another one lives in its place) or `gone`.
        written_at_s: Redis' clock at its newest commit, seconds since 1970; 0 before the first.
        idle_s: Time since then, by the same clock.
    """

    pointer: Pointer
    state: EpochState
    written_at_s: int
    idle_s: float

    @property
    def being_written(self) -> bool:
        """Whether a worker or a rebuild committed lately."""
        return self.state != "gone" and self.written_at_s > 0 and self.idle_s < QUIET_S


@dataclass(frozen=True, slots=True)
class EpochSize:
    """What an epoch takes in the store; bytes are estimated from a sample of its keys."""

    keys: int
    estimated_bytes: int


class Epochs(Protocol):
    """The epochs of one store, over all specs. Every call may raise `StoreUnavailable`.

    Implementations: `epochs_redis.RedisEpochs`, `tests.fakes_epochs.MemoryEpochs`.
    """

    async def allocate(self, lowest: int, base_topic: str, partitions: int, digest: str) -> Pointer:
        """Return an epoch that nobody was ever given, with an updates topic of its own.

        Args:
            lowest: The number is at least this.
            base_topic: Of epoch 0; the number is put behind it.
            partitions: Count of updates partitions.
            digest: Of the spec whose features will be in it.
        """

    async def flip(self, old: Pointer | None, new: Pointer) -> None:
        """Let an epoch live for its spec, and fence the writers of the one that did.

        Raises:
            StoreConflict: What lives is no longer `old`, or the new epoch was retired meanwhile.
        """

    async def drop(self, pointer: Pointer) -> int:
        """Fence an epoch's writers, delete its keys and remember it as gone; return how many.

        Its spec's pointer goes with it if it lived. May be repeated where it was interrupted.
        """

    async def list_epochs(self) -> Sequence[EpochInfo]:
        """Return every epoch ever given, by number."""


def state_of(kept: EpochKept, alive: Pointer | None) -> EpochState:
    """Return what an epoch is, given what lives for its spec."""
    if kept.gone:
        return "gone"
    if alive is None or kept.epoch > alive.epoch:
        return "filling"
    return "alive" if kept.epoch == alive.epoch else "left"


def in_use(epochs: Sequence[EpochInfo]) -> list[EpochInfo]:
    """Return the epochs of a list that somebody writes."""
    return [info for info in epochs if info.being_written]
