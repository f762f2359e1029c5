"""progress and log ends → lag, or WorkerStalled: a worker must not stop silently."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.featurize import Place


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
