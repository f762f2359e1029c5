"""The barrier opens when the slowest part of the system has seen everything, and not before."""

from collections.abc import Mapping, Sequence

import pytest

from features.event import partition_of
from features.store import Reads, SourceMark, Watermarks
from features.topics import Topics
from pipeline.replay_barrier import BarrierTimeout, PathBarrier
from tests.fakes_registry import MemoryWeightsRegistry

TOPICS = Topics("t.")
PARTITIONS = 3


class MemoryLogView:
    def __init__(self) -> None:
        self.ends = {
            "t.events.v1:0": 10,
            "t.events.v1:1": 0,
            "t.decisions.v1:0": 10,
            "t.labels.v1:0": 4,
            "t.label_updates.v1:0": 4,
        }
        self.decided: dict[str, int] = {}

    async def end_offsets(self, topics: Sequence[str]) -> Mapping[str, int]:
        return {p: end for p, end in self.ends.items() if p.split(":")[0] in topics}

    async def committed(self, group: str, topic: str) -> Mapping[str, int]:
        assert (group, topic) == ("t.decide", "t.events.v1")
        return self.decided


class MemoryMarks:
    """A store of which only the watermarks matter."""

    def __init__(self) -> None:
        self.marks = {p: Watermarks() for p in range(PARTITIONS)}

    async def read_many(self, keys: Sequence[bytes]) -> Reads:
        owners = [partition_of(key, PARTITIONS) for key in keys]
        return Reads([b""] * len(keys), owners, {p: self.marks[p] for p in owners}, {})


class World:
    """Everything that the barrier asks, and a script of what happens while it waits."""

    def __init__(self) -> None:
        self.log = MemoryLogView()
        self.registry = MemoryWeightsRegistry()
        self.store = MemoryMarks()
        self.now = 0.0
        self.steps = [self.decide, self.learn, self.apply, self.answer]
        self.happened: list[str] = []

    async def sleep(self, duration_s: float) -> None:
        self.now += duration_s
        if self.steps:
            step = self.steps.pop(0)
            await step()
            self.happened.append(step.__name__)

    async def decide(self) -> None:
        self.log.decided = {"t.events.v1:0": 10}

    async def learn(self) -> None:
        await self.registry.publish(1, b"first")
        await self.registry.report_progress({"t.decisions.v1:0": 10, "t.labels.v1:0": 4}, 1)
        await self.registry.report_active("scorer", 0)

    async def apply(self) -> None:
        for marks in self.store.marks.values():
            marks.e = [SourceMark(next_offset=10), SourceMark()]
            marks.l = [SourceMark(next_offset=4)]

    async def answer(self) -> None:
        await self.registry.report_active("scorer", 1)

    def barrier(self) -> PathBarrier:
        return PathBarrier(
            self.log,
            self.registry,
            self.store,
            topics=TOPICS,
            decide_group="t.decide",
            updates_partitions=PARTITIONS,
            timeout_s=60,
            sleep=self.sleep,
            now_s=lambda: self.now,
        )


async def test_it_opens_after_the_last_part_caught_up() -> None:
    world = World()
    await world.barrier().wait()
    assert world.happened == ["decide", "learn", "apply", "answer"]


async def test_it_is_open_when_nothing_lags() -> None:
    world = World()
    for step in world.steps:
        await step()
    await world.barrier().wait()
    assert world.happened == []
    assert world.now == 0


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("decide", r"stream door .* t.events.v1:0 offset 0 of 10"),
        ("learn", r"the learner is at t.decisions.v1:0 offset 0 of 10"),
        ("apply", r"featurize \(store partition 0\) is at t.events.v1:0 offset 0 of 10"),
        ("answer", r"scorer scorer answers with version 0 of 1"),
    ],
)
async def test_a_part_that_stays_behind_is_named(missing: str, says: str) -> None:
    world = World()
    world.steps = [step for step in world.steps if step.__name__ != missing]
    with pytest.raises(BarrierTimeout, match=says):
        await world.barrier().wait()
    assert world.now >= 60


async def test_one_store_partition_that_lags_holds_it() -> None:
    world = World()
    for step in world.steps:
        await step()
    world.steps = []
    world.store.marks[2].l = [SourceMark(next_offset=3)]
    with pytest.raises(
        BarrierTimeout, match=r"partition 2\) is at t.label_updates.v1:0 offset 3 of 4"
    ):
        await world.barrier().wait()
