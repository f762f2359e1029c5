"""what was sent → until the rest of the system has seen it all: an honest slice of event time.

A flat-out replay lets learner and scorers race; with the barrier the next slice is only sent when
the last one is **1** decided, **2** learned, **3** in the states, **4** answered with.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

from features.event import partition_of
from features.store import FeatureReader
from features.topics import Topics
from models.registry import WeightsRegistry

BARRIER_TIMEOUT_S: Final = 300.0
POLL_S: Final = 0.005
POLL_MAX_S: Final = 0.1


class BarrierTimeout(RuntimeError):
    """A part of the system did not catch up; the text names it, and how far it is."""


class LogView(Protocol):
    """Ends and committed positions, by "topic:partition"."""

    async def end_offsets(self, topics: Sequence[str]) -> Mapping[str, int]:
        """Return the next offset to be written of every partition of these topics."""

    async def committed(self, group: str, topic: str) -> Mapping[str, int]:
        """Return a consumer group's next offsets; partitions without one are absent."""


class PathBarrier:
    """Waits for the stream door, the learner, the feature store and the scorers (a `Barrier`)."""

    def __init__(
        self,
        log: LogView,
        registry: WeightsRegistry,
        store: FeatureReader,
        *,
        topics: Topics,
        decide_group: str,
        updates_partitions: int,
        timeout_s: float = BARRIER_TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Hold the ports.

        Args:
            log: Ends and committed positions.
            registry: Knows the learner's progress and what scorers answer with.
            store: Knows how much of the log is in the states.
            topics: Of the deployment.
            decide_group: Consumer group of the stream door.
            updates_partitions: Of the store.
            timeout_s: For each `wait`.
            sleep: For the pauses between looks.
            now_s: Monotonic seconds.
        """
        self._log, self._registry, self._store = log, registry, store
        self._topics, self._group = topics, decide_group
        self._keys = _one_key_each(updates_partitions)
        self._timeout_s, self._sleep, self._now_s = timeout_s, sleep, now_s

    async def wait(self) -> None:
        """Return when everything in the log is decided, learned, in the states, and answered with.

        Raises:
            BarrierTimeout: Not within `timeout_s`.
        """
        deadline_s = self._now_s() + self._timeout_s
        topics = self._topics
        ends = await self._log.end_offsets([topics.events])
        await self._until(lambda: self._undecided(ends), deadline_s)
        ends = await self._log.end_offsets([topics.decisions, topics.labels])
        await self._until(lambda: self._unlearned(ends), deadline_s)
        ends = await self._log.end_offsets([topics.events, topics.label_updates])
        await self._until(lambda: self._unapplied(ends), deadline_s)
        await self._until(self._unanswered, deadline_s)

    async def _until(self, lagging: Callable[[], Awaitable[str]], deadline_s: float) -> None:
        """Ask until nothing lags; the pauses grow."""
        pause_s = POLL_S
        while lag := await lagging():
            if self._now_s() >= deadline_s:
                raise BarrierTimeout(f"not caught up after {self._timeout_s:g} s: {lag}")
            await self._sleep(pause_s)
            pause_s = min(pause_s * 1.5, POLL_MAX_S)

    async def _undecided(self, ends: Mapping[str, int]) -> str:
        done = await self._log.committed(self._group, self._topics.events)
        return _lag("the stream door (riskbeat serve)", done, ends)

    async def _unlearned(self, ends: Mapping[str, int]) -> str:
        progress = await self._registry.progress()
        return _lag("the learner", progress.offsets if progress is not None else {}, ends)

    async def _unapplied(self, ends: Mapping[str, int]) -> str:
        reads = await self._store.read_many(self._keys)
        names = {"e": self._topics.events, "l": self._topics.label_updates}
        for number, watermarks in sorted(reads.watermarks.items()):
            done = {
                f"{names[source]}:{partition}": offset
                for source, offsets in watermarks.next_offsets().items()
                for partition, offset in enumerate(offsets)
            }
            if lag := _lag(f"featurize (store partition {number})", done, ends):
                return lag
        return ""

    async def _unanswered(self) -> str:
        active = await self._registry.active_version()
        for scorer, version in (await self._registry.active_versions()).items():
            if version < active:
                return f"scorer {scorer} answers with version {version} of {active}"
        return ""


def _lag(who: str, done: Mapping[str, int], ends: Mapping[str, int]) -> str:
    """Name the first partition that is behind; empty when none is."""
    for place, end in sorted(ends.items()):
        if end > max(done.get(place, 0), 0):
            return f"{who} is at {place} offset {max(done.get(place, 0), 0)} of {end}"
    return ""


def _one_key_each(partitions: int) -> list[bytes]:
    """Find a key for each updates partition, so that one read sees them all."""
    keys: dict[int, bytes] = {}
    number = 0
    while len(keys) < partitions:
        key = b"barrier:%d" % number
        keys.setdefault(partition_of(key, partitions), key)
        number += 1
    return [keys[partition] for partition in range(partitions)]
