"""The learner's ports in memory: they work, and they can die where they are told to."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from features.event import EventRejected
from features.update import LabelTransition
from models.registry import Freeze
from pipeline.join import Outgoing
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.learn_ports import Polled, Published, Taken
from pipeline.pieces import chain_of
from pipeline.position import StepCounts
from tests.fakes_registry import Fuse


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
        self.pages: dict[tuple[int, int], bytes] = {}

    def append(
        self, kind: Literal["decision", "label"], body: bytes, partition: int = 0, at_ms: int = 0
    ) -> None:
        topic = f"{kind}s"
        offset = self._next.get(f"{topic}:{partition}", 0)
        self._next[f"{topic}:{partition}"] = offset + 1
        self._records.append(Taken(kind, topic, partition, offset, at_ms or 2**42, body))

    @property
    def records(self) -> list[Taken]:
        """All that was appended."""
        return list(self._records)

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

    async def send_cuts(self, version: int, page: int, body: bytes) -> None:
        self._fuse.burn("before cuts")
        self.pages[version, page] = body
        self._fuse.burn("after cuts")

    async def last_weights_version(self) -> int:
        return self.weights[-1][0] if self.weights else 0

    async def read_weights(self, first: int, last: int) -> dict[int, bytes]:
        found = dict(self.weights)
        wanted = [number for number in found if first <= number <= last]
        return {n: found[n] for number in wanted for n in chain_of(found, number)}

    async def read(self, source: str, first: int, last: int) -> list[Taken]:
        return [
            record
            for record in self._records
            if f"{record.topic}:{record.partition}" == source and first <= record.offset < last
        ]

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
        self.freezes: list[Freeze | None] = []

    def stepped(self, counts: StepCounts, rejects: int, seconds: float) -> None:
        self.labels.update(counts.labels)
        self.decisions.update(counts.decisions)

    def published(self, done: Published) -> None:
        self.versions.append(done.version)

    def freeze_changed(self, freeze: Freeze | None) -> None:
        self.freezes.append(freeze)
