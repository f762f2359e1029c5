"""progress and log ends → lag, or WorkerStalled: a worker must not stop silently.

`Watch` sees that the log is not read on; it lives in the event loop, so `LoopGuard` sees from a
thread of its own that the loop itself still turns.
"""

import faulthandler
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from pipeline.featurize import Place

log = structlog.get_logger("watch")


class WorkerStalled(RuntimeError):
    """There is something to read, and for too long nothing was read."""


@dataclass(frozen=True, slots=True)
class Lag:
    """Records that are in the log and not yet taken, by step."""

    route: int
    aggregate: int


class Watch:
    """Remembers when each partition last went on, or had nothing to go on to."""

    def __init__(self, stall_s: float, updates_topic: str, now_s: Callable[[], float]) -> None:
        """Bound the silence; `now_s` is a monotonic clock."""
        self._stall_s = stall_s
        self._updates = updates_topic
        self._now_s = now_s
        self._moved: dict[Place, tuple[int, float]] = {}
        self._settled_at = now_s()

    def check(
        self, progress: Mapping[Place, int], ends: Mapping[Place, int], rebalancing: bool
    ) -> Lag:
        """Compare where the worker stands with where the log ends.

        Args:
            progress: Offset that comes next, by owned partition.
            ends: Offset after the last record, by owned partition.
            rebalancing: Whether the group is being assigned anew.

        Raises:
            WorkerStalled: A partition with lag, or a rebalance, stood still for `stall_s`.
        """
        now_s = self._now_s()
        if not rebalancing:
            self._settled_at = now_s
        elif now_s - self._settled_at > self._stall_s:
            raise WorkerStalled(f"a rebalance did not end within {self._stall_s:g} s")
        moved: dict[Place, tuple[int, float]] = {}
        lag = {True: 0, False: 0}
        for place, at in progress.items():
            behind = max(0, ends.get(place, at) - at)
            lag[place.topic == self._updates] += behind
            before, since_s = self._moved.get(place, (at, now_s))
            if behind == 0 or at != before:
                since_s = now_s
            if now_s - since_s > self._stall_s:
                raise WorkerStalled(
                    f"{place.topic} {place.partition} stands at {at}, {behind} records behind, "
                    f"for more than {self._stall_s:g} s"
                )
            moved[place] = (at, since_s)
        self._moved = moved
        return Lag(route=lag[False], aggregate=lag[True])


def end_process() -> None:
    """End a process whose loop is blocked, where it stands: nothing in it can be asked to stop."""
    log.critical("loop.blocked", detail="the event loop does not turn any more")
    faulthandler.dump_traceback()
    os._exit(1)


class LoopGuard:
    """Calls `end` when the event loop has not turned for too long, from outside of it.

    It counts its own looks and not a clock: a process that was paused, and goes on, is not ended
    for the pause.
    """

    def __init__(self, looks: int, end: Callable[[], None] = end_process) -> None:
        """Bound the silence to so many looks; `end` must not need the loop."""
        self._looks = looks
        self._end = end
        self._turned = True
        self._silent = 0

    def turned(self) -> None:
        """Say, from within the loop, that it turns."""
        self._turned = True

    def look(self) -> None:
        """Count a look at which nothing was said since the last one."""
        self._silent = 0 if self._turned else self._silent + 1
        self._turned = False
        if self._silent >= self._looks:
            self._end()

    def start(self, pause_s: float) -> None:
        """Look every so often, for as long as the process lives."""

        def watch() -> None:
            while True:
                threading.Event().wait(pause_s)
                self.look()

        threading.Thread(target=watch, name="loop-guard", daemon=True).start()
