"""the log → what every entity's state must be: event by event, with nothing of the worker's code.

Which events count is decided by a plain reading of design 4.2 (dictionaries and sets). The window
kernel is the one thing shared, and it has an oracle of its own.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import redis

from features.event import EventRejected, identity_of, parse_event, partition_of
from features.spec import Spec
from features.store import decode_watermarks
from features.topics import Topics
from features.update import (
    EntityUpdates,
    LabelTransition,
    updates_of_events,
    updates_of_transitions,
)
from features.window import apply_many
from tests.live.running import read_topic

POLL_S = 0.25
READ_KEYS = 1_000


@dataclass
class Truth:
    """The log, read from its start.

    Attributes:
        states: Entity key → the bytes that must stand in the store.
        rejected: (topic, partition, offset) of every record that is no event.
        ends: (source, partition) → offset after the last record.
    """

    spec: Spec
    partitions: int
    states: dict[bytes, bytes] = field(default_factory=dict)
    rejected: set[tuple[str, int, int]] = field(default_factory=set)
    ends: dict[tuple[str, int], int] = field(default_factory=dict)
    events: int = 0
    duplicates: int = 0
    late: int = 0
    transitions: int = 0

    def add_events(self, topic: str, partition: int, records: Iterable[Any]) -> None:
        """Take one partition of events, in the order of the log."""
        clock: dict[int, int] = {}
        seen: dict[int, set[str]] = defaultdict(set)
        for record in records:
            self.ends["e", partition] = record.offset + 1
            try:
                body = record.value or b""
                event = parse_event(body, self.spec.event_rules, record.timestamp)
            except EventRejected:
                self.rejected.add((topic, partition, record.offset))
                continue
            self.events += 1
            name, at_ms = identity_of(event), event.event_time_ms
            rows = updates_of_events(self.spec, [event])
            owners = [partition_of(key, self.partitions) for key in rows.keys]
            counts: dict[int, bool] = {}
            for p in set(owners):
                late = at_ms < clock.get(p, at_ms) - self.spec.dedup_horizon_ms
                clock[p] = max(at_ms, clock.get(p, at_ms))
                counts[p] = not late and name not in seen[p]
                self.late += late
                self.duplicates += not late and name in seen[p]
                if not late:
                    seen[p].add(name)
            self._apply(rows.take([i for i, p in enumerate(owners) if counts[p]]))

    def add_transitions(self, topic: str, partition: int, records: Iterable[Any]) -> None:
        """Take one partition of label transitions, in the order of the log."""
        decoder = msgspec.json.Decoder(LabelTransition)
        newest = 0
        for record in records:
            self.ends["l", partition] = record.offset + 1
            try:
                transition = decoder.decode(record.value or b"")
            except msgspec.MsgspecError:
                self.rejected.add((topic, partition, record.offset))
                continue
            self.transitions += 1
            if transition.seq > newest:  # of one that came twice, the first counts
                newest = transition.seq
                self._apply(updates_of_transitions(self.spec, [transition]))

    def _apply(self, rows: EntityUpdates) -> None:
        if not len(rows):
            return
        keys = list(dict.fromkeys(rows.keys))
        slot = np.array([keys.index(key) for key in rows.keys], np.int32)
        before = [self.states.get(key, b"") for key in keys]
        self.states.update(zip(keys, apply_many(self.spec, before, slot, rows), strict=True))


def read_truth(kafka: str, topics: Topics, spec: Spec, partitions: int) -> Truth:
    """Read both sources from their start to their end, and count by hand."""
    truth = Truth(spec, partitions)
    for topic, add in (
        (topics.events, truth.add_events),
        (topics.label_updates, truth.add_transitions),
    ):
        logs: dict[int, list[Any]] = defaultdict(list)
        for record in asyncio.run(read_topic(kafka, topic)):
            logs[record.partition].append(record)
        for partition, records in sorted(logs.items()):
            add(topic, partition, records)
    return truth


def letters_of(kafka: str, topics: Topics) -> set[tuple[str, int, int]]:
    """Return where every dead letter came from; a letter sent twice is one."""
    letters = [json.loads(record.value) for record in asyncio.run(read_topic(kafka, topics.dead))]
    return {(letter["topic"], letter["partition"], letter["offset"]) for letter in letters}


@dataclass(frozen=True)
class Kept:
    """An epoch of the store, read from outside."""

    client: redis.Redis
    prefix: str
    partitions: int

    def behind(self, ends: Mapping[tuple[str, int], int]) -> int:
        """Return how many source records some updates partition lacks, at most."""
        lacking = 0
        for p in range(self.partitions):
            data = self.client.get(f"{self.prefix}{{{p}}}:mark")
            if not isinstance(data, bytes):
                return max(ends.values(), default=0)
            _, marks = decode_watermarks(data)
            for (source, partition), end in ends.items():
                known = (marks.e if source == "e" else marks.l)[partition:]
                lacking = max(lacking, end - (known[0].next_offset if known else 0))
        return lacking

    def settle(
        self,
        ends: Mapping[tuple[str, int], int],
        timeout_s: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> bool:
        """Wait until every updates partition holds both sources; say whether they do."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            try:
                if self.behind(ends) <= 0:
                    return True
            except redis.RedisError:
                pass
            meanwhile()
            time.sleep(POLL_S)
        return False

    def states(self) -> dict[bytes, bytes]:
        """Return every state in the store, asked for or not."""
        found: dict[bytes, bytes] = {}
        for p in range(self.partitions):
            prefix = f"{self.prefix}{{{p}}}:s:".encode()
            pattern = prefix.replace(b"[", b"\\[") + b"*"
            names = list(self.client.scan_iter(pattern, count=READ_KEYS))
            for i in range(0, len(names), READ_KEYS):
                part = names[i : i + READ_KEYS]
                blobs = self.client.mget(part)
                found |= {k[len(prefix) :]: v or b"" for k, v in zip(part, blobs, strict=True)}
        return found


def different(one: Mapping[bytes, bytes], other: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the keys whose bytes are not the same on both sides, or that one side lacks."""
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
