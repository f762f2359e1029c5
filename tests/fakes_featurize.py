"""A log in memory, a worker over it that can be killed anywhere, and what must come out."""

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from features.event import Event, EventRejected, identity_of, parse_event, partition_of
from features.spec import Spec
from features.store import Source
from features.update import (
    EntityUpdates,
    LabelTransition,
    concat_updates,
    updates_of_events,
    updates_of_transitions,
)
from features.window import apply_many
from pipeline.featurize import FeaturizeLimits, Layout, Place
from pipeline.metrics import FeaturizeMetrics
from pipeline.owned import OwnedPartitions

EVENTS, LABELS, UPDATES, DEAD = "events", "labels", "updates", "dead"
SOURCE_PARTITIONS: dict[Source, int] = {"e": 2, "l": 1}
UPDATES_PARTITIONS = 3
LAYOUT = Layout({EVENTS: "e", LABELS: "l"}, SOURCE_PARTITIONS, UPDATES, UPDATES_PARTITIONS, DEAD)
PLACES = [
    *(Place(EVENTS, s) for s in range(SOURCE_PARTITIONS["e"])),
    *(Place(LABELS, s) for s in range(SOURCE_PARTITIONS["l"])),
    *(Place(UPDATES, p) for p in range(UPDATES_PARTITIONS)),
]
TRANSITIONS = msgspec.json.Decoder(LabelTransition)
NOW_MS = 1_767_300_000_000


@dataclass(frozen=True)
class MemoryRecord:
    offset: int
    timestamp: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


class MemoryLog:
    """The ports `Log` and `Sender` of `pipeline.owned`."""

    def __init__(self) -> None:
        self.records: dict[Place, list[MemoryRecord]] = {place: [] for place in PLACES}
        self.records[Place(DEAD, 0)] = []
        self.read: dict[Place, int] = {}
        self.handed: list[list[tuple[Place, Sequence[Any]]]] = []  # by the worker to itself

    async def hand_over(self, batches: list[tuple[Place, Sequence[Any]]]) -> None:
        self.handed.append(batches)

    def append(
        self,
        place: Place,
        value: bytes,
        at_ms: int = NOW_MS,
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> int:
        kept = self.records[place]
        kept.append(MemoryRecord(len(kept), at_ms, value, headers))
        return len(kept) - 1

    async def send_all(self, topic: str, records: Iterable[tuple[int | None, bytes]]) -> list[int]:
        return [self.append(Place(topic, p or 0), value) for p, value in records]

    async def bounds(self, places: Sequence[Place]) -> Mapping[Place, tuple[int, int]]:
        return {place: (0, len(self.records[place])) for place in places}

    async def seek(self, place: Place, offset: int) -> None:
        self.read[place] = offset

    def drained_until_ms(self, place: Place, next_offset: int) -> int | None:
        return NOW_MS if len(self.records[place]) <= next_offset else None

    def owns(self, place: Place) -> bool:
        return place in self.read

    def poll(self, place: Place, most: int) -> list[MemoryRecord]:
        at = self.read[place]
        batch = self.records[place][at : at + most]
        self.read[place] = at + len(batch)
        return batch

    def behind(self) -> list[Place]:
        return [place for place, at in self.read.items() if at < len(self.records[place])]


class Killed(Exception):
    """The process died here."""


class Guillotine:
    """Stands before a port, and kills its caller before or after the n-th call."""

    def __init__(self, n: int, *, after: bool) -> None:
        self._left = n
        self._after = after
        self.fell = False

    def over(self, port: Any) -> Any:
        guillotine = self

        class Guarded:
            def __getattr__(self, name: str) -> Any:
                found = getattr(port, name)
                return guillotine._guard(found) if name in CALLS else found

        return Guarded()

    def _guard(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                self.fell = True
                raise Killed
            answer = await call(*args, **kwargs)
            if self._left == 0:
                self.fell = True
                raise Killed
            return answer

        return guarded


CALLS = {"send_all", "commit_many", "store_positions", "load_across", "open_partition"}


def worker_over(
    spec: Spec,
    store: Any,
    log: MemoryLog,
    guillotine: Guillotine | None = None,
    limits: FeaturizeLimits | None = None,
    hand_over: bool = True,
) -> OwnedPartitions:
    """Return a new process over a store and a log that outlive it."""
    return OwnedPartitions(
        spec=spec,
        store=guillotine.over(store) if guillotine else store,
        log_view=log,
        sender=guillotine.over(log) if guillotine else log,
        layout=LAYOUT,
        limits=limits or FeaturizeLimits(range_heartbeat_s=0.0, idle_heartbeat_s=3600.0),
        metrics=FeaturizeMetrics(),
        store_wait_s=0.0,
        now_ms=lambda: NOW_MS,
        hand_over=log.hand_over if hand_over else None,
    )


async def start(owned: OwnedPartitions, log: MemoryLog, places: Sequence[Place] = PLACES) -> None:
    log.handed.clear()
    log.read = dict(await owned.take_over(places))


async def step(owned: OwnedPartitions, log: MemoryLog, place: Place, most: int) -> None:
    """Poll one partition, and give what came to the step that takes it."""
    batch = log.poll(place, most)
    if place.topic == UPDATES:
        await owned.aggregate([(place, batch)])
    else:
        await owned.route([(place, batch)])


async def drain(owned: OwnedPartitions, log: MemoryLog, rng: random.Random, most: int) -> None:
    """Poll in random order and cuts until nothing is left, and everyone was told so.

    As the worker does, updates are left unfetched while it is handed all of them.
    """
    while (behind := to_fetch(owned, log)) or log.handed:
        if behind:
            await step(owned, log, rng.choice(behind), rng.randint(1, most))
        while log.handed and rng.random() < 0.5:
            await owned.aggregate(log.handed.pop(0))
        if rng.random() < 0.2:
            await owned.beat()
            await owned.store_positions()
    await owned.beat()
    await owned.store_positions()
    while log.handed:
        await owned.aggregate(log.handed.pop(0))
    await owned.aggregate([(place, log.poll(place, 10_000)) for place in to_fetch(owned, log)])


def to_fetch(owned: OwnedPartitions, log: MemoryLog) -> list[Place]:
    """Return what a worker would fetch now."""
    alone = owned.feeds_itself()
    return [place for place in log.behind() if not (alone and place.topic == UPDATES)]


def expected_states(
    spec: Spec, logs: Mapping[Place, Sequence[Any]], layout: Layout = LAYOUT
) -> dict[bytes, bytes]:
    """Apply the whole log in one go, each event judged alone and in order: the brute force."""
    parts: list[EntityUpdates] = []
    for place, records in logs.items():
        source = layout.sources.get(place.topic)
        if source == "e":
            parts += _events_that_count(spec, records, layout.updates_partitions)
        elif source == "l":
            parts += _transitions_that_count(spec, records)
    rows = concat_updates(parts)
    slots: dict[bytes, int] = {}
    slot = np.array([slots.setdefault(key, len(slots)) for key in rows.keys], np.int32)
    states = apply_many(spec, [b""] * len(slots), slot, rows)
    return dict(zip(slots, states, strict=True))


def _events_that_count(
    spec: Spec, records: Sequence[Any], partitions: int
) -> Iterator[EntityUpdates]:
    clocks: dict[int, int] = {}
    seen: dict[int, set[str]] = {}
    for record in records:
        try:
            event = parse_event(record.value or b"", spec.event_rules, record.timestamp)
        except EventRejected:
            continue
        yield _rows_that_count(spec, event, partitions, clocks, seen)


def _transitions_that_count(spec: Spec, records: Sequence[Any]) -> Iterator[EntityUpdates]:
    newest = 0
    for record in records:
        transition = TRANSITIONS.decode(record.value or b"")
        if transition.seq > newest:
            newest = transition.seq
            yield updates_of_transitions(spec, [transition])


def _rows_that_count(
    spec: Spec,
    event: Event,
    partitions: int,
    clocks: dict[int, int],
    seen: dict[int, set[str]],
) -> EntityUpdates:
    rows = updates_of_events(spec, [event])
    owners = [partition_of(key, partitions) for key in rows.keys]
    at_ms, name, kept = event.event_time_ms, identity_of(event), []
    for p in set(owners):
        clock = clocks.get(p, -1)
        known = seen.setdefault(p, set())
        if at_ms >= clock - spec.dedup_horizon_ms:
            if name not in known:
                kept += [i for i, owner in enumerate(owners) if owner == p]
            known.add(name)
        clocks[p] = max(clock, at_ms)
    return rows.take(sorted(kept))
