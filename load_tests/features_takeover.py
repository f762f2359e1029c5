"""Takeover: a worker is killed; how long after the broker noticed do its partitions move on?

The broker notices when the member's session times out, and says so by preparing a rebalance: that
is asked for every 20 ms. From then on it is ours: joining, opening the partitions, and the first
commit in each that the dead worker owned, and the first event of each source partition it read.
"""

import asyncio
import logging
import statistics
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import GroupCoordinatorNotAvailableError

from load_tests.features_arrivals import START_S, Plan, Sight, producing, reading
from load_tests.features_bench import (
    EVENTS_PARTITIONS,
    START_TIMEOUT_S,
    Bench,
    bench,
    next_offsets,
    wait_opened,
)
from load_tests.features_servers import Servers
from load_tests.report import Row

TIMES, QUICK_TIMES = 5, 2
RATE = 200.0
SESSION_TIMEOUT_S = 6.0
TAKEOVER_TIMEOUT_S = 30.0
POLL_S = 0.02
QUIET_S = 2.0  # both workers commit before one is killed
FLOW_ON_S = 5.0  # events after the longest time to detection
WORKERS = ("first", "second")

Owned = dict[str, set[tuple[str, int]]]  # member → (topic, partition)


@dataclass(frozen=True)
class Takeover:
    """One death. Times in seconds.

    Attributes:
        detected_s: From the kill until the broker prepared a rebalance.
        joined_s: From detection until the group was stable without the dead worker.
        moved_s: From detection until every moved updates partition has its first commit.
        read_s: From detection until an event of every moved source partition is in some state.
        partitions: How many of updates and of events moved.
    """

    detected_s: float
    joined_s: float
    moved_s: float
    read_s: float
    partitions: tuple[int, int]


class Group:
    """What the broker says of the workers' consumer group."""

    def __init__(self, kafka: str, name: str) -> None:
        """Name the group; nothing is connected yet."""
        self.kafka, self.name = kafka, name

    async def __aenter__(self) -> "Group":
        self.admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await self.admin.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.admin.close()

    async def state(self) -> tuple[str, Owned]:
        """Return the group's state and who owns what."""
        (answer,) = await self.admin.describe_consumer_groups([self.name])
        _, _, state, _, _, members, *_ = answer.groups[0]
        owned: Owned = {}
        for member, _, _, _, assignment, *_ in members:
            places: set[tuple[str, int]] = set()
            if assignment:
                decoded = ConsumerProtocolMemberAssignment.decode(assignment)
                places = {(topic, p) for topic, ps in decoded.assignment for p in ps}
            owned[member] = places
        return state, owned

    async def until(self, members: int, timeout_s: float) -> Owned:
        """Wait until the group is stable with so many members that own all there is."""
        async with asyncio.timeout(timeout_s):
            while True:
                with suppress(GroupCoordinatorNotAvailableError):  # of a broker's first group
                    state, owned = await self.state()
                    if state == "Stable" and len(owned) == members and all(owned.values()):
                        return owned
                await asyncio.sleep(POLL_S)

    async def left_stable(self, members: int, timeout_s: float) -> float:
        """Wait until the broker begins to move partitions; return when that was seen."""
        async with asyncio.timeout(timeout_s):
            while True:
                state, owned = await self.state()
                if state != "Stable" or len(owned) < members:
                    return time.monotonic()
                await asyncio.sleep(POLL_S)


def first_after(
    sights: Sequence[Sight], at_s: float, updates: set[int], sources: set[int]
) -> float:
    """Return when, after `at_s`, the last of the moved partitions was first seen to move on.

    An updates partition moves on with any new mark; a source partition when an event of it is in.
    Infinity if one never did.
    """
    before = max((row for row, sight in enumerate(sights) if sight.at_s <= at_s), default=0)
    base = sights[before]
    offsets = next_offsets(base.marks, "e")
    reached = [max((m[s] for m in offsets if s < len(m)), default=0) for s in range(64)]
    updates, sources = set(updates), set(sources)
    for sight in sights[before + 1 :]:
        updates = {p for p in updates if sight.marks[p] == base.marks[p]}
        if sources:
            now = next_offsets(sight.marks, "e")
            sources = {s for s in sources if all(s >= len(m) or m[s] <= reached[s] for m in now)}
        if not updates and not sources:
            return sight.at_s
    return float("inf")


async def die(run: Bench, group: Group, victim: str) -> tuple[float, float, float, Owned, Owned]:
    """Kill a worker; return kill, detection and stable times, and who owned what."""
    _, before = await group.state()
    await asyncio.sleep(QUIET_S)
    process = run.processes.running.pop(victim).popen
    process.kill()
    killed_s = time.monotonic()
    process.wait()
    detected_s = await group.left_stable(2, SESSION_TIMEOUT_S + TAKEOVER_TIMEOUT_S)
    after = await group.until(1, TAKEOVER_TIMEOUT_S)
    stable_s = time.monotonic()
    return killed_s, detected_s, stable_s, before, after


def kill_one(run: Bench, group_name: str, victim: str, seed: int) -> Takeover:
    """Let events flow, kill a worker, and see its partitions move on."""
    home = run.deployment.folder
    address = run.servers.kafka.address
    seconds = START_S + QUIET_S + SESSION_TIMEOUT_S + FLOW_ON_S
    plan = Plan(address, run.topic("events.v1"), EVENTS_PARTITIONS, RATE, seconds, seed)

    async def both() -> None:
        async with Group(address, group_name) as group:
            await group.until(2, START_TIMEOUT_S)

    async def act() -> tuple[float, float, float, Owned, Owned]:
        async with Group(address, group_name) as group:
            return await die(run, group, victim)

    asyncio.run(both())
    with (
        reading(home, run.servers.store.address, run.mark_keys()) as reader,
        producing(home, plan) as wait,
    ):
        killed_s, detected_s, stable_s, before, after = asyncio.run(act())
        wait()
        sights = reader.end()
    (survivor,) = after
    moved = set().union(*(places for name, places in before.items() if name != survivor))
    updates = {p for topic, p in moved if "updates.v1" in topic and "label" not in topic}
    sources = {p for topic, p in moved if topic == run.topic("events.v1")}
    return Takeover(
        detected_s=detected_s - killed_s,
        joined_s=stable_s - detected_s,
        moved_s=first_after(sights, detected_s, updates, set()) - detected_s,
        read_s=first_after(sights, detected_s, set(), sources) - detected_s,
        partitions=(len(updates), len(sources)),
    )


def measure_takeover(servers: Servers, folder: Path, quick: bool) -> list[Row]:
    """Kill one of two workers several times."""
    what = "takeover: detection → first commit of every moved partition, worst"
    if not servers.apache:
        note = "needs Apache Kafka: the embedded broker waits forever for a killed member"
        return [Row(what, None, "s", 2, 1, "lower", note)]
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    found = []
    timeout = str(SESSION_TIMEOUT_S)
    with bench(servers, folder, RISKBEAT_KAFKA_SESSION_TIMEOUT_S=timeout) as run:
        group = f"{run.topic_prefix}featurize.e0"
        run.start(WORKERS[0])
        wait_opened(run)
        for turn in range(QUICK_TIMES if quick else TIMES):
            for name in WORKERS:
                if name not in run.processes.running:
                    run.start(name)
            found.append(kill_one(run, group, WORKERS[turn % 2], seed=turn + 1))
    moved = [each.moved_s for each in found]
    detected = [each.detected_s for each in found]
    each = ", ".join(
        f"{one.moved_s:.2f} s ({one.partitions[0]} updates, {one.partitions[1]} events partitions)"
        for one in found
    )
    note = f"{len(found)} x kill -9 of one of two workers at {RATE:.0f} events/s: {each}"
    joined = statistics.median(one.joined_s for one in found)
    return [
        Row(what, max(moved), "s", 2, 1, "lower", note),
        Row("takeover: the same, median", statistics.median(moved), "s", better="lower"),
        Row(
            "takeover: detection → an event of every moved source partition is in, worst",
            max(one.read_s for one in found),
            "s",
            better="lower",
        ),
        Row("takeover: detection → group stable, median", joined, "s", better="lower"),
        Row(
            "takeover: kill → detection by the broker, worst",
            float(np.max(detected)),
            "s",
            better="lower",
            note=f"session timeout {SESSION_TIMEOUT_S:g} s",
        ),
    ]
