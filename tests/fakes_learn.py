"""The learner's ports in memory: they work, and they can die where they are told to."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from features.event import EventRejected
from features.update import LabelTransition
from models.registry import Activation, NoWeights, Progress, Standing, VersionConflict
from pipeline.join import Outgoing
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.learn_loop import Polled, Taken
from pipeline.position import StepCounts


class Killed(Exception):
    """What a test's `kill -9` looks like from inside."""


class Fuse:
    """Burns down one call at a time, and kills at the one that was chosen."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.at: tuple[str, int] | None = None

    def burn(self, place: str) -> None:
        self.calls[place] += 1
        if self.at == (place, self.calls[place]):
            self.at = None
            raise Killed(place)


class MemoryWeightsRegistry:
    """`models.registry.WeightsRegistry` in a dictionary."""

    def __init__(self, keep_versions: int = 300, fuse: Fuse | None = None) -> None:
        self._keep = keep_versions
        self._fuse = fuse or Fuse()
        self._versions: dict[int, bytes] = {}
        self._latest = 0
        self._active = 0
        self._pinned = 0
        self._acts: list[Activation] = []
        self._scorers: dict[str, int] = {}
        self._progress: Progress | None = None
        self._news = asyncio.Condition()
        self.sender = ""

    async def publish(self, version: int, data: bytes) -> None:
        self._fuse.burn("before registry")
        if version != self._latest + 1:
            raise VersionConflict(f"version {version} does not follow {self._latest}")
        await self._put(version, data)
        self._fuse.burn("after registry")

    async def restore(self, version: int, data: bytes) -> None:
        if version > self._latest:
            await self._put(version, data)

    async def standing(self) -> Standing:
        return Standing(latest=self._latest, active=self._active, pinned=self._pinned > 0)

    async def latest_version(self) -> int:
        return self._latest

    async def active_version(self) -> int:
        return self._active

    async def read(self, version: int) -> bytes:
        if version not in self._versions:
            raise NoWeights(f"version {version} is not in the registry")
        return self._versions[version]

    async def wait_newer(self, version: int, timeout_s: float) -> int:
        async with self._news:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait_for(lambda: self._active != version)
            except TimeoutError:
                pass
        return self._active

    async def pin(self, version: int, by: str, why: str, at_ms: int) -> None:
        await self.read(version)
        before, self._pinned = self._pinned, version
        self._forget(before)
        await self._activate("pin", version, by, why, at_ms)

    async def unpin(self, by: str, why: str, at_ms: int) -> None:
        if self._pinned:
            before, self._pinned = self._pinned, 0
            self._forget(before)
            await self._activate("unpin", self._latest, by, why, at_ms)

    async def rollback(self, by: str, why: str, at_ms: int) -> int:
        target = self._active - 1
        await self.pin(target, by, why, at_ms)
        return target

    async def history(self) -> list[Activation]:
        return list(self._acts)

    async def report_active(self, scorer_id: str, version: int) -> None:
        self._scorers[scorer_id] = version

    async def active_versions(self) -> Mapping[str, int]:
        return dict(self._scorers)

    async def claim_labels(self, sender: str) -> str:
        self.sender = self.sender or sender
        return self.sender

    async def report_progress(self, offsets: Mapping[str, int], version: int) -> None:
        self._fuse.burn("before progress")
        self._progress = Progress(offsets=dict(offsets), version=version)

    async def progress(self) -> Progress | None:
        return self._progress

    def lose_last(self, count: int) -> None:
        """Forget the newest versions, as a store without its last second does."""
        for version in range(self._latest - count + 1, self._latest + 1):
            self._versions.pop(version, None)
        self._latest -= count
        self._active = self._latest

    async def _put(self, version: int, data: bytes) -> None:
        self._versions[version] = data
        self._latest = version
        self._forget(version - self._keep)
        if not self._pinned:
            self._active = version
        await self._wake()

    async def _activate(self, act: str, version: int, by: str, why: str, at_ms: int) -> None:
        self._active = version
        self._acts.insert(0, Activation(act=act, version=version, by=by, why=why, at_ms=at_ms))
        await self._wake()

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    def _forget(self, version: int) -> None:
        if version <= self._latest - self._keep and version != self._pinned:
            self._versions.pop(version, None)


class MemoryLearnLog:
    """`pipeline.learn_loop.LearnLog` on lists."""

    def __init__(self, batch: int, fuse: Fuse | None = None) -> None:
        self._batch = batch
        self._fuse = fuse or Fuse()
        self._records: list[Taken] = []
        self._next: dict[str, int] = {}
        self._at = 0
        self.dead: list[tuple[Taken, EventRejected]] = []
        self.transitions: list[Outgoing] = []
        self.weights: list[tuple[int, bytes]] = []

    def append(
        self, kind: Literal["decision", "label"], body: bytes, partition: int = 0, at_ms: int = 0
    ) -> None:
        topic = f"{kind}s"
        offset = self._next.get(f"{topic}:{partition}", 0)
        self._next[f"{topic}:{partition}"] = offset + 1
        self._records.append(Taken(kind, topic, partition, offset, at_ms or 2**42, body))

    async def start_at(self, offsets: dict[str, int]) -> None:
        self._at = 0
        while self._at < len(self._records):
            record = self._records[self._at]
            if record.offset >= offsets.get(f"{record.topic}:{record.partition}", 0):
                break
            self._at += 1

    async def poll(self, timeout_s: float) -> Polled:
        records = self._records[self._at : self._at + self._batch]
        self._at += len(records)
        self._fuse.burn("poll")
        offsets = {f"{r.topic}:{r.partition}": r.offset + 1 for r in records}
        return Polled(records, offsets, self._at == len(self._records))

    async def reject_many(self, rejects: Sequence[tuple[Taken, EventRejected]]) -> None:
        self.dead.extend(rejects)
        self._fuse.burn("after reject")

    async def send_transitions(self, records: Sequence[Outgoing]) -> None:
        self._fuse.burn("before transitions")
        self.transitions.extend(records)
        self._fuse.burn("after transitions")

    async def send_weights(self, version: int, data: bytes) -> None:
        self._fuse.burn("before weights")
        self.weights.append((version, data))
        self._fuse.burn("after weights")

    async def last_weights_version(self) -> int:
        return self.weights[-1][0] if self.weights else 0

    async def read_weights(self, first: int, last: int) -> dict[int, bytes]:
        return {version: data for version, data in self.weights if first <= version <= last}

    @property
    def done(self) -> bool:
        return self._at == len(self._records)

    def applied_transitions(self) -> list[LabelTransition]:
        """What a reader keeps that tells duplicates by number: per partition 1, 2, 3 …."""
        newest: dict[int, int] = {}
        kept = []
        for record in self.transitions:
            if record.seq <= newest.get(record.partition, 0):
                continue
            assert record.seq == newest.get(record.partition, 0) + 1, "a number was left out"
            newest[record.partition] = record.seq
            kept.append(msgspec.json.decode(record.body, type=LabelTransition))
        return kept


class FusedJoinStore(SqliteJoinStore):
    """The real store, which can be killed on either side of its commit."""

    fuse = Fuse()

    def commit(self, parts: Mapping[str, bytes]) -> None:
        self.fuse.burn("before commit")
        super().commit(parts)
        self.fuse.burn("after commit")


class Silence:
    """A watch that remembers what it was told."""

    def __init__(self) -> None:
        self.labels: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self.versions: list[int] = []

    def stepped(self, counts: StepCounts, rejects: int, seconds: float) -> None:
        self.labels.update(counts.labels)
        self.decisions.update(counts.decisions)

    def published(self, version: int, created_at_ms: int, figures: dict[str, float]) -> None:
        self.versions.append(version)
