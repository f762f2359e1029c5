"""The logic of the measurements: logs, quantiles, marks. What they say must be what was."""

import json
import math

import msgspec
import numpy as np
import pytest

from features.event import parse_event
from features.spec import Spec
from features.store import SourceMark, Watermarks, encode_watermarks
from features.update import LabelTransition
from load_tests.features_arrivals import Arrivals, Sight
from load_tests.features_bench import GOAL_SPEC, Look, committed, next_offsets
from load_tests.features_freshness import figures, owners_of, readable_s
from load_tests.features_labels import SPEC, transitions
from load_tests.features_log import POPULATION, wide_log, zipf, zipf_log
from load_tests.features_sizes import cost_of_second_half
from load_tests.features_takeover import first_after

END_MS = 1_770_000_000_000
PARTITIONS = 8


def marks(*offsets: int) -> bytes:
    return encode_watermarks(Watermarks(e=[SourceMark(next_offset=o) for o in offsets]), 0)


def test_zipf_draws_the_first_rank_twice_as_often_as_the_second() -> None:
    drawn = zipf(np.random.default_rng(3), 1000, 200_000)
    counts = np.bincount(drawn, minlength=1000)
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.2)
    assert drawn.max() < 1000


def test_every_event_of_a_log_is_one_that_the_goal_takes() -> None:
    rules = Spec.load(GOAL_SPEC).event_rules
    log = zipf_log(200, END_MS)
    events = [parse_event(body, rules, END_MS) for body in log.bodies(np.arange(200))]
    assert [event.event_time_ms for event in events] == log.time_ms.tolist()
    assert {event.event_id for event in events} == {f"e{row}" for row in range(200)}
    assert [e.amount.value for e in events if e.amount] == log.cents.tolist()


def test_a_wide_log_gives_each_entity_one_to_three_events() -> None:
    log = wide_log(3_000, 10_000, END_MS)
    assert log.distinct() == pytest.approx(10_000, rel=0.02)
    for name in POPULATION:
        assert np.bincount(log.entities[name]).max() <= 4


def test_transitions_are_numbered_from_one_and_readable() -> None:
    log = zipf_log(50, END_MS)
    decoded = [
        msgspec.json.decode(body, type=LabelTransition) for body in transitions(log, np.arange(50))
    ]
    assert [each.seq for each in decoded] == list(range(1, 51))
    known = {entity.name for entity in Spec.load(SPEC).entities}
    assert all(set(each.entities) == known for each in decoded)


def test_only_what_every_updates_partition_has_counts_as_committed() -> None:
    offsets = next_offsets([marks(5, 9), marks(7, 3), None], "e")
    assert offsets == [[5, 9], [7, 3], []]
    assert committed(offsets, [10, 10]) == 0
    assert committed(offsets[:2], [10, 10]) == 5 + 3
    assert committed(offsets[:2], [4, 10]) == 4 + 3


def arrivals(partition: list[int], offset: list[int]) -> Arrivals:
    n = len(offset)
    entities = {name: np.arange(n) for name in POPULATION}
    times = np.zeros(n)
    return Arrivals(times, times, times, np.array(partition), np.array(offset), entities)


def test_an_event_is_readable_when_the_last_of_its_partitions_has_it() -> None:
    came = arrivals([0, 0, 1], [0, 1, 0])
    owners = np.array([[0, 0, 1, 1], [0, 0, 0, 0], [2, 2, 2, 2]])
    rest: list[bytes | None] = [marks(0, 0, 0, 0)] * (PARTITIONS - 2)
    sights = [
        Sight(1.0, [marks(1, 0, 0, 0), None, *rest]),
        Sight(2.0, [marks(1, 0, 0, 0), marks(1, 0, 0, 0), *rest]),
        Sight(3.0, [marks(2, 0, 0, 0), marks(1, 0, 0, 0), *rest]),
    ]
    assert readable_s(came, owners, sights).tolist() == [2.0, 3.0, math.inf]


def test_owners_are_the_partitions_that_the_store_uses() -> None:
    owners = owners_of(arrivals([0] * 100, list(range(100))))
    assert owners.shape == (100, 4)
    assert set(np.unique(owners).tolist()) == set(range(PARTITIONS))


def test_figures_are_milliseconds_and_never_interpolate_downwards() -> None:
    p50, p99, mean = figures(np.arange(1, 101) / 1000)
    assert (p50, p99) == (51, 100)
    assert mean == pytest.approx(50.5)


def test_cost_is_that_of_the_second_half() -> None:
    looks = [
        Look(t, done, cpu, True) for t, done, cpu in ((0, 0, 1.0), (1, 50, 9.0), (2, 100, 9.5))
    ]
    assert cost_of_second_half(looks) == pytest.approx(1e6 * 0.5 / 50)


def test_a_takeover_ends_with_the_last_partition_that_moves_on() -> None:
    sights = [
        Sight(1.0, [marks(5), marks(5)]),
        Sight(2.0, [marks(6), marks(5)]),
        Sight(3.0, [marks(6), marks(6)]),
    ]
    assert first_after(sights, 1.5, {0, 1}, set()) == 3.0
    assert first_after(sights, 1.5, {0}, set()) == 2.0
    assert first_after(sights, 1.5, set(), {0}) == 2.0
    assert first_after(sights, 3.5, {0}, set()) == math.inf


def test_a_body_is_json_as_a_producer_would_write_it() -> None:
    (body,) = zipf_log(1, END_MS).bodies(np.arange(1))
    event = json.loads(body)
    assert set(event["entities"]) == set(POPULATION)
    assert event["event_time"].endswith("Z")
