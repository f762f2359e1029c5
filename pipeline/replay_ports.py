"""what a replay talks to: a target that takes items, a barrier, a clock, somebody who watches."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class TargetFailed(RuntimeError):
    """The target did not take an item; run the replay again to go on from there."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Items of consecutive numbers, in order.

    Attributes:
        first: Number of the first item.
        kinds: `EVENT` or `LABEL` of each.
    """

    first: int
    kinds: list[int]
    keys: list[bytes]
    bodies: list[bytes]

    def __len__(self) -> int:
        """Count the items."""
        return len(self.kinds)


class ReplayTarget(Protocol):
    """Where a replay sends. Items come in order of their numbers.

    Implementations: `replay_kafka.KafkaTarget`, `replay_http.HttpTarget`.
    """

    async def begin(self, run_id: str, positions: dict[str, int] | None) -> dict[str, int]:
        """Get ready, and return where the target's log ends.

        Args:
            run_id: Of this replay.
            positions: None at first; on resumption, what was saved. The target then finds out
                what the earlier run sent beyond its saved progress, and will not send it again.
        """

    async def send_many(self, batch: Batch) -> None:
        """Take items; return when there is room for more, not when they are acknowledged.

        Raises:
            TargetFailed: An item was refused or lost.
        """

    async def flush(self) -> None:
        """Wait until everything is acknowledged (TargetFailed)."""

    def acked(self) -> tuple[int, dict[str, int]]:
        """Return the number below which all items are acknowledged, and the positions then."""


class Barrier(Protocol):
    """Waits until the rest of the system has caught up with what was sent."""

    async def wait(self) -> None:
        """Return when all decisions, updates, labels and weights of what was sent are in place."""


class Clock(Protocol):
    """Wall time, so that a test can advance it."""

    def now_s(self) -> float:
        """Return monotonic seconds."""

    async def sleep(self, duration_s: float) -> None:
        """Wait."""


class WallClock:
    """The real one."""

    def now_s(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, duration_s: float) -> None:
        """Wait."""
        await asyncio.sleep(duration_s)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to send, and how fast.

    Attributes:
        speed: Event time per wall time; None is flat out.
        barrier_ms: Length of the slices of event time, from the first event, between which the
            barrier is awaited.
        limit_events: Stop after so many events.
        until_ms: Nothing that happened or became known at this time or later is sent.
        tail: Whether labels that become known after the log's last event are sent (a cut by
            `limit_events` or `until_ms` drops them anyway).
    """

    speed: float | None = None
    barrier_ms: int | None = None
    limit_events: int | None = None
    until_ms: int | None = None
    tail: bool = True


@dataclass(slots=True)
class Told:
    """How a replay stands.

    Attributes:
        events: Sent or found sent, as are `labels`.
        skipped: Of these, sent by an earlier run.
        event_time_ms: Of the newest item.
        fraction: Of the log, 0..1.
        items_per_s: Sent by this run, over its time so far.
        waiting: For the barrier.
    """

    events: int = 0
    labels: int = 0
    skipped: int = 0
    bad_rows: int = 0
    event_time_ms: int = 0
    fraction: float = 0.0
    items_per_s: float = 0.0
    waiting: bool = False
    finished: bool = False


OnTold = Callable[[Told], None]
