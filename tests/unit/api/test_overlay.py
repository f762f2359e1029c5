"""The overlay forgets in time, in order and within its bounds."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from api.overlay import Lacking, Overlay
from api.overlay_place import Place, is_in
from features.event import Event, identity_hash, identity_of
from features.spec import Spec
from features.store import Reads, SourceMark, Watermarks
from features.update import updates_of_events
from tests.fakes_serving import NOW_MS, a_spec, an_event


class Bench:
    """An overlay and questions about it."""

    def __init__(self, spec: Spec, events_max: int = 1000, rows_max: int = 100) -> None:
        self.spec = spec
        self.overlay = Overlay(2.0, events_max, rows_max, spec.max_fields)

    def accept(self, *events: Event, now_ms: int = NOW_MS, mark: int = 0) -> list[list[str]]:
        updates = updates_of_events(self.spec, events)
        owner = dict.fromkeys(updates.keys, 0)
        reads = Reads([], [], {0: Watermarks([SourceMark(mark)])}, {0: 1})
        places = [None] * len(events)
        lacking = self.overlay.accept_many(events, places, updates, reads, owner, now_ms)
        return [[name.rpartition("\x1f")[2] for name in names] for names in lacking.names]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(a_spec(tmp_path))


def test_rows_are_exactly_those_of_the_events_named(bench: Bench) -> None:
    events = [an_event(f"p{i}", at_ms=NOW_MS + i, value=10 + i, card=f"c{i % 2}") for i in range(6)]
    updates = updates_of_events(bench.spec, events)
    owner = dict.fromkeys(updates.keys, 0)
    reads = Reads([], [], {}, {})
    lacking = bench.overlay.accept_many(events, [None] * 6, updates, reads, owner, NOW_MS)
    assert lacking.updates is not None
    found = list(
        zip(
            lacking.updates.row_event.tolist(),
            lacking.updates.keys,
            lacking.updates.value.tolist(),
            lacking.updates.time_ms.tolist(),
            lacking.updates.id.tolist(),
            strict=True,
        )
    )
    rows = list(
        zip(
            updates.keys,
            updates.value.tolist(),
            updates.time_ms.tolist(),
            updates.id.tolist(),
            strict=True,
        )
    )
    assert found == [
        (i, *rows[j]) for i in range(6) for j in range(i) if updates.keys[j] == updates.keys[i]
    ]
    np.testing.assert_array_equal(lacking.updates.count, 1)


def test_events_leave_when_their_time_is_over(bench: Bench) -> None:
    bench.accept(an_event("p1"))
    bench.accept(an_event("p2"), now_ms=NOW_MS + 1_000)
    assert bench.accept(an_event("p3"), now_ms=NOW_MS + 2_000) == [["p1", "p2"]]
    assert bench.accept(an_event("p4"), now_ms=NOW_MS + 2_001) == [["p2", "p3"]]
    assert bench.accept(an_event("p5"), now_ms=NOW_MS + 90_000) == [[]]
    assert bench.overlay.size == 1


def test_the_oldest_leave_when_there_are_too_many(tmp_path: Path) -> None:
    bench = Bench(a_spec(tmp_path), events_max=3)
    for i in range(10):
        bench.accept(an_event(f"p{i}"))
    assert bench.overlay.size == 3
    assert bench.accept(an_event("last")) == [["p7", "p8", "p9"]]


def test_a_hot_entity_keeps_its_newest_rows_alone(tmp_path: Path) -> None:
    bench = Bench(a_spec(tmp_path), rows_max=2)
    for i in range(5):
        bench.accept(an_event(f"p{i}", card=f"c{i}", merchant="hot"))
    assert bench.accept(an_event("q", card="c0", merchant="hot")) == [["p0", "p3", "p4"]]
    assert bench.accept(an_event("r", card="c0", merchant="x"), now_ms=NOW_MS + 90_000) == [[]]


def test_slots_are_used_again_and_never_twice(tmp_path: Path) -> None:
    bench = Bench(a_spec(tmp_path), events_max=50, rows_max=7)
    rng = np.random.default_rng(3)
    alive: dict[str, int] = {}
    for i in range(3_000):
        value = int(rng.integers(1, 10**6))
        event = an_event(f"p{i}", value=value, card=f"c{rng.integers(5)}")
        updates = updates_of_events(bench.spec, [event])
        owner = dict.fromkeys(updates.keys, 0)
        lacking = bench.overlay.accept_many(
            [event], [None], updates, Reads([], [], {}, {}), owner, NOW_MS
        )
        if lacking.updates is not None:
            assert lacking.updates.value.tolist() == [alive[name] for name in lacking.names[0]]
        alive[identity_of(event)] = value
    assert bench.overlay.size == 50


def test_a_repeat_is_kept_once_and_a_forgotten_event_is_not_applied(bench: Bench) -> None:
    bench.accept(an_event("p1"), an_event("p1"))
    assert bench.accept(an_event("p2")) == [["p1"]]
    bench.overlay.forget(identity_of(an_event("p1")))
    assert bench.accept(an_event("p3")) == [["p2"]]
    bench.accept(an_event("p1"))
    assert bench.accept(an_event("p4")) == [["p2", "p3", "p1"]]


def test_a_mark_covers_what_lies_before_it() -> None:
    marks = [SourceMark(0), SourceMark(5)]
    assert is_in(Place(1, 4), marks)
    assert not is_in(Place(1, 5), marks)
    assert not is_in(Place(2, 0), marks)
    assert not is_in(None, marks)


@dataclass
class Kept:
    """One accepted event."""

    name: str
    keys: list[bytes]
    at_ms: int
    place: Place | None = None
    alive: bool = True

    def lacks(self, marks: list[SourceMark]) -> bool:
        return self.alive and not is_in(self.place, marks)


class Naive:
    """The same promise, kept by going through every event for every question."""

    def __init__(self, events_max: int, rows_max: int) -> None:
        self.events_max, self.rows_max = events_max, rows_max
        self.kept: list[Kept] = []

    def find(self, name: str) -> Kept | None:
        return next((one for one in self.kept if one.name == name and one.alive), None)

    def expire(self, before_ms: int) -> None:
        self.kept = [one for one in self.kept if one.at_ms >= before_ms]

    def accept(self, name: str, keys: list[bytes], now_ms: int) -> None:
        if self.find(name) is None:
            self.kept = [*self.kept, Kept(name, keys, now_ms)][-self.events_max :]

    def lacking(self, marks: dict[bytes, list[SourceMark]]) -> list[Kept]:
        found: list[int] = []
        for key, its in marks.items():
            of_key = [one for one in self.kept if key in one.keys][-self.rows_max :]
            found += [id(one) for one in of_key if one.lacks(its)]
        return [one for one in self.kept if id(one) in found]


def check(
    lacking: Lacking, index: int, naive: Naive, marks: dict[bytes, list[SourceMark]]
) -> list[Kept]:
    """Hold what a question heard against what the naive overlay says; return that."""
    expected = naive.lacking(marks)
    assert lacking.names[index] == [one.name for one in expected]
    assert lacking.unplaced[index] == [one.name for one in expected if one.place is None]
    found: dict[bytes, list[int]] = {key: [] for key in marks}
    rows = lacking.updates
    if rows is not None:
        for question, key, id_ in zip(rows.row_event, rows.keys, rows.id.tolist(), strict=True):
            if question == index:
                found[key].append(id_)
    assert found == {  # in the order in which they were accepted
        key: [identity_hash(one.name) for one in expected if key in one.keys and one.lacks(its)]
        for key, its in marks.items()
    }
    return expected


@pytest.mark.parametrize("seed", range(8))
def test_each_question_hears_of_what_its_states_lack(tmp_path: Path, seed: int) -> None:
    """Marks differ by partition, grow, and go back as after a failover.

    Events come in batches, come again, are only asked about, are forgotten, and get places late
    and in no order.
    """
    rng = np.random.default_rng(seed)
    bench, naive = Bench(a_spec(tmp_path), events_max=40, rows_max=9), Naive(40, 9)
    next_offset, applied = [0, 0, 0], [[0, 0, 0], [0, 0, 0]]
    unplaced: list[str] = []
    named = 0
    for step in range(400):
        now_ms, keep = NOW_MS + 97 * step, bool(rng.random() < 0.9)
        events = [
            an_event(
                f"p{step - rng.integers(0, 3) * (rng.random() < 0.2)}_{rng.integers(4)}",
                card=f"c{rng.integers(6)}",
                merchant=f"m{rng.integers(2)}",
            )
            for _ in range(rng.integers(1, 6))
        ]
        updates = updates_of_events(bench.spec, events)
        marks = [[SourceMark(offset) for offset in offsets] for offsets in applied]
        reads = Reads([], [], {p: Watermarks(mine) for p, mine in enumerate(marks)}, {0: 1})
        owner = {key: sum(key) % 2 for key in updates.keys}
        lacking = bench.overlay.accept_many(
            events, [None] * len(events), updates, reads, owner, now_ms, keep
        )
        naive.expire(now_ms - 2_000)
        for i, event in enumerate(events):
            keys = [k for k, j in zip(updates.keys, updates.row_event, strict=True) if j == i]
            named += len(check(lacking, i, naive, {key: marks[owner[key]] for key in keys}))
            if keep:
                naive.accept(identity_of(event), keys, now_ms)
                unplaced.append(identity_of(event))
        if unplaced and rng.random() < 0.1:
            name = unplaced[rng.integers(len(unplaced))]
            bench.overlay.forget(name)
            if (one := naive.find(name)) is not None:
                one.alive = False
        while len(unplaced) > 5:
            name, partition = unplaced.pop(rng.integers(5)), int(rng.integers(3))
            place = Place(partition, next_offset[partition])
            next_offset[partition] += 1
            bench.overlay.place(name, place)
            if (one := naive.find(name)) is not None:
                one.place = place
        for offsets in applied:
            if rng.random() < 0.3:
                offsets[:] = rng.integers(np.minimum(offsets, next_offset), np.add(next_offset, 1))
            if rng.random() < 0.02:
                offsets[:] = np.maximum(0, np.subtract(offsets, 8))
    assert named > 900


def test_rings_grow_when_more_comes_than_ever_did(tmp_path: Path) -> None:
    bench = Bench(a_spec(tmp_path), events_max=100_000, rows_max=3)
    names: list[str] = []
    for step in range(40):
        events = [an_event(f"p{step}_{i}", card=f"c{i}", merchant=f"m{i}") for i in range(300)]
        found = bench.accept(*events)
        assert found == [[f"p{s}_{i}" for s in range(max(0, step - 3), step)] for i in range(300)]
        names += [event.event_id for event in events]
    assert bench.overlay.size == len(names) == 12_000
    assert bench.accept(an_event("later", card="c0", merchant="m0"), now_ms=NOW_MS + 90_000) == [[]]
    assert bench.overlay.size == 1
    assert len(bench.overlay._kept._key_of) == len(
        updates_of_events(bench.spec, [an_event("later", card="c0", merchant="m0")])
    )
