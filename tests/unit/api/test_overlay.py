"""The overlay forgets in time, in order and within its bounds."""

from pathlib import Path

import numpy as np
import pytest

from api.overlay import Overlay, is_in
from api.overlay_entity import Place
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


class Naive:
    """The same promise, kept by going through every event for every question."""

    def __init__(self, rows_max: int) -> None:
        self.rows_max = rows_max
        self.kept: list[tuple[str, list[bytes], int]] = []
        self.places: dict[str, Place] = {}
        self.gone: set[str] = set()

    def lacking(self, keys: list[bytes], marks: list[SourceMark]) -> list[str]:
        def open_to(name: str) -> bool:
            return name not in self.gone and not is_in(self.places.get(name), marks)

        named: set[str] = set()
        for key in keys:
            of_key = [name for name, rows, _ in self.kept if key in rows][-self.rows_max :]
            named.update(filter(open_to, of_key))
        return [name for name, _, _ in self.kept if name in named]


@pytest.mark.parametrize("seed", range(6))
def test_each_question_hears_of_what_its_states_lack(tmp_path: Path, seed: int) -> None:
    """Marks grow, and go back as after a failover; events get places late and in no order."""
    rng = np.random.default_rng(seed)
    bench = Bench(a_spec(tmp_path), events_max=120, rows_max=9)
    naive, unplaced, next_offset = Naive(9), list[str](), [0, 0, 0]
    applied, named = [0, 0, 0], 0
    for step in range(900):
        now_ms = NOW_MS + 37 * step
        event = an_event(f"p{step}", card=f"c{rng.integers(6)}", merchant=f"m{rng.integers(2)}")
        updates = updates_of_events(bench.spec, [event])
        marks = [SourceMark(offset) for offset in applied]
        reads = Reads([], [], {0: Watermarks(marks)}, {0: 1})
        owner = dict.fromkeys(updates.keys, 0)
        lacking = bench.overlay.accept_many([event], [None], updates, reads, owner, now_ms)
        naive.kept = [one for one in naive.kept if one[2] + 2_000 >= now_ms][-120:]
        expected = naive.lacking(updates.keys, marks)
        assert lacking.names == [expected]
        assert lacking.unplaced == [[name for name in expected if name not in naive.places]]
        rows = lacking.updates
        found = list(zip(rows.keys, rows.id.tolist(), strict=True)) if rows else []
        for key in updates.keys:  # in the order in which they were accepted
            assert [id_ for k, id_ in found if k == key] == [
                identity_hash(name)
                for name, keys, _ in naive.kept
                if name in expected and key in keys
            ]
        assert {key for key, _ in found} <= set(updates.keys)
        named += len(lacking.names[0])
        naive.kept = [*naive.kept, (identity_of(event), updates.keys, now_ms)][-120:]
        unplaced.append(identity_of(event))
        if rng.random() < 0.1:
            bench.overlay.forget(name := unplaced[rng.integers(len(unplaced))])
            naive.gone.add(name)
        while len(unplaced) > 5:
            name, partition = unplaced.pop(rng.integers(5)), int(rng.integers(3))
            place = Place(partition, next_offset[partition])
            next_offset[partition] += 1
            bench.overlay.place(name, place)
            naive.places[name] = place
        if rng.random() < 0.3:
            applied = [
                int(rng.integers(one, most + 1))
                for one, most in zip(applied, next_offset, strict=True)
            ]
        if rng.random() < 0.02:
            applied = [max(0, one - 8) for one in applied]
    assert named > 900
