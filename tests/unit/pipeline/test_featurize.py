"""The two steps over a log in memory, against the brute force over the same log."""

import copy
import json
import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.event import from_ms
from features.spec import Spec
from features.store import SchemaMismatch, StoreConflict, StoreEpochMismatch
from pipeline.featurize import FeaturizeLimits, Place, UpdatesHole
from pipeline.owned_ports import OffsetOutsideLog
from pipeline.updates import decode_record, encode_record
from tests.fakes import MemoryFeatureStore, MemoryShelf
from tests.fakes_featurize import (
    DEAD,
    EVENTS,
    LABELS,
    NOW_MS,
    UPDATES,
    UPDATES_PARTITIONS,
    MemoryLog,
    drain,
    expected_states,
    start,
    step,
    worker_over,
)

SPEC_TEXT = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1"}}
event_types:
  card_payment: {primary: card}
limits: {head_events: 4, label_head_events: 3, dedup_horizon: 10m, reorder: 5s}
entities:
  card: {count: [10m, 1h], sum: [1h], distinct: {merchant: [1h]}, fraud_count: [1h]}
  merchant: {count: [1h], mean: [1h], label_count: [1h], fraud_rate: [1h]}
  device: {count: [10m], since_last: true}
"""
START_MS = NOW_MS - 2 * 24 * 3_600_000


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    path = tmp_path_factory.mktemp("spec") / "features.yaml"
    path.write_text(SPEC_TEXT)
    return Spec.load(path)


def a_store(spec: Spec, shelf: MemoryShelf) -> MemoryFeatureStore:
    return MemoryFeatureStore(shelf, partitions=UPDATES_PARTITIONS, spec_digest=spec.digest)


def an_event(n: int, at_ms: int, rng: random.Random) -> bytes:
    return json.dumps(
        {
            "event_type": "card_payment",
            "event_id": f"e{n}",
            "event_time": from_ms(at_ms).isoformat(),
            "entities": {
                "card": f"c{rng.randrange(6)}",
                "merchant": f"m{rng.randrange(3)}",
                "device": f"d{rng.randrange(4)}",
            },
            "amount": {"value": rng.randrange(1, 9_999), "currency": "EUR"},
        }
    ).encode()


def a_transition(seq: int, rng: random.Random) -> bytes:
    return json.dumps(
        {
            "event_type": "card_payment",
            "event_id": f"e{seq}",
            "entities": {"card": f"c{rng.randrange(6)}", "merchant": f"m{rng.randrange(3)}"},
            "label_time": (from_ms(START_MS) + timedelta(minutes=seq)).isoformat(),
            "label": rng.choice(["fraud", "legit"]),
            "sign": 1,
            "seq": seq,
            "transition_id": f"t{seq}",
        }
    ).encode()


def a_log(rng: random.Random, events: int = 120) -> MemoryLog:
    """Disordered, late, repeated and rejected events, and repeated label transitions."""
    log, sent = MemoryLog(), [[], []]  # type: tuple[MemoryLog, list[list[bytes]]]
    for n in range(events):
        s = rng.randrange(2)
        at_ms = START_MS + n * 20_000 - rng.choice([0, 0, 5_000, 60_000, 3_600_000])
        body = an_event(n, at_ms, rng)
        if sent[s] and rng.random() < 0.2:
            body = rng.choice(sent[s][-8:])
        if rng.random() < 0.05:
            body = b'{"event_type": 3}'
        sent[s].append(body)
        log.append(Place(EVENTS, s), body, NOW_MS - events + n)
    transitions = [a_transition(seq, rng) for seq in range(1, 20)]
    for body in [*transitions[:12], *transitions[7:]]:
        log.append(Place(LABELS, 0), body)
    return log


def states_of(shelf: MemoryShelf, epoch: int = 0) -> dict[bytes, bytes]:
    kept = [part for (of, _), part in shelf.partitions.items() if of == epoch]
    return {key: blob for part in kept for key, blob in part.states.items()}


async def test_a_log_becomes_the_states_of_its_brute_force(spec: Spec) -> None:
    rng, shelf = random.Random(1), MemoryShelf()
    log = a_log(rng, events=300)
    store = a_store(spec, shelf)
    await store.attach()
    owned = worker_over(spec, store, log)
    await start(owned, log)
    await drain(owned, log, rng, most=40)
    assert states_of(shelf) == expected_states(spec, log.records)
    reads = await a_store(spec, shelf).read_many([b"x"])
    assert reads.watermarks
    assert all(mark.next_offset > 0 for marks in reads.watermarks.values() for mark in marks.e)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 10**6), most=st.integers(1, 60), rows=st.integers(1, 40))
async def test_cuts_restarts_and_repeats_change_no_byte(
    spec: Spec, seed: int, most: int, rows: int
) -> None:
    rng, shelf = random.Random(seed), MemoryShelf()
    log = a_log(rng)
    limits = FeaturizeLimits(
        update_record_max_rows=rows,
        commit_max_bytes=rng.choice([1, 2_000, 10**6]),
        cache_max_bytes=rng.choice([0, 3_000, 10**6]),
        range_heartbeat_s=rng.choice([0.0, 3600.0]),
    )
    for _ in range(3):  # each a new process that goes on where the store stands
        owned = worker_over(spec, a_store(spec, shelf), log, limits=limits)
        await start(owned, log)
        for _ in range(rng.randrange(12)):
            await step(owned, log, rng.choice(list(log.read)), rng.randint(1, most))
            if log.handed and rng.random() < 0.5:  # before it is fetched, as like as not
                await owned.aggregate(log.handed.pop(rng.randrange(len(log.handed))))
        if rng.random() < 0.5:
            await owned.store_positions()
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    await drain(owned, log, rng, most)
    assert states_of(shelf) == expected_states(spec, log.records)


async def test_a_reject_goes_to_the_dead_letters_and_the_stream_goes_on(spec: Spec) -> None:
    rng, log, shelf = random.Random(2), MemoryLog(), MemoryShelf()
    bodies = [b"{", b"x" * 70_000, an_event(1, NOW_MS + 120_000, rng), an_event(2, NOW_MS, rng)]
    for body in bodies:
        log.append(Place(EVENTS, 1), body)
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    await drain(owned, log, rng, most=10)
    letters = [json.loads(r.value or b"") for r in log.records[Place(DEAD, 0)]]
    assert [(x["topic"], x["partition"], x["offset"]) for x in letters] == [
        (EVENTS, 1, 0),
        (EVENTS, 1, 1),
        (EVENTS, 1, 2),
    ]
    assert [x["code"] for x in letters] == ["malformed", "too_large", "time_in_future"]
    assert letters[2]["pointer"] == "/event_time"
    assert len(states_of(shelf)) == 3


async def test_a_cloud_event_is_routed_as_the_event_that_it_is(spec: Spec) -> None:
    rng, log, shelf = random.Random(2), MemoryLog(), MemoryShelf()
    plain = [an_event(number, NOW_MS - number, rng) for number in range(6)]
    place = Place(EVENTS, 1)
    for number, body in enumerate(plain):
        data = json.loads(body)
        if number % 2:
            named = {"id": data["event_id"], "source": "/shop", "type": data["event_type"]}
            log.append(place, json.dumps(named | {"specversion": "1.0", "data": data}).encode())
            continue
        headers = {"specversion": "1.0", "id": data.pop("event_id"), "source": "/shop"}
        headers |= {"type": data.pop("event_type"), "time": data.pop("event_time")}
        log.append(place, json.dumps(data).encode(), headers=in_kafka(headers))
    wrong = {"specversion": "1.0", "id": "another", "source": "/shop", "type": "card_payment"}
    log.append(place, plain[0], headers=in_kafka(wrong))
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    await drain(owned, log, rng, most=10)
    [letter] = [json.loads(r.value or b"") for r in log.records[Place(DEAD, 0)]]
    assert (letter["offset"], letter["code"], letter["pointer"]) == (6, "conflict", "/id")

    told = MemoryLog()
    for body in plain:
        told.append(place, body)
    assert states_of(shelf) == expected_states(spec, told.records)


def in_kafka(attributes: dict[str, str]) -> list[tuple[str, bytes]]:
    return [(f"ce_{name}", value.encode()) for name, value in attributes.items()]


async def test_a_hole_stops_the_worker_by_name(spec: Spec) -> None:
    rng, log, shelf = random.Random(3), a_log(random.Random(3)), MemoryShelf()
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    await drain(owned, log, rng, most=10)
    place = Place(UPDATES, 0)
    last = next(
        r for r in reversed(log.records[place]) if decode_record(r.value or b"").header.rows
    )
    record = decode_record(last.value or b"")
    header = msgspec.structs.replace(record.header, first=500, end=501)
    log.append(place, encode_record(replace(record, header=header)))
    with pytest.raises(UpdatesHole, match="goes on at 500"):
        await owned.aggregate([(place, log.poll(place, 10_000))])


@pytest.mark.parametrize(
    ("changes", "error"),
    [({"epoch": 1}, StoreEpochMismatch), ({"digest": "0" * 64}, SchemaMismatch)],
)
async def test_records_of_another_epoch_or_spec_are_refused(
    spec: Spec, changes: dict[str, Any], error: type[Exception]
) -> None:
    log, shelf = a_log(random.Random(4)), MemoryShelf()
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    for s in (0, 1):
        await owned.route([(Place(EVENTS, s), log.poll(Place(EVENTS, s), 1000))])
    place = Place(UPDATES, 0)
    record = decode_record(log.records[place][0].value or b"")
    header = msgspec.structs.replace(record.header, **changes)
    log.append(place, encode_record(replace(record, header=header)))
    with pytest.raises(error):
        await owned.aggregate([(place, log.poll(place, 1000))])


async def test_a_racing_worker_costs_a_reopen_and_nothing_else(spec: Spec) -> None:
    rng, log, shelf = random.Random(5), a_log(random.Random(5)), MemoryShelf()
    first = worker_over(spec, a_store(spec, shelf), log)
    await start(first, log)
    for s in (0, 1):
        await first.route([(Place(EVENTS, s), log.poll(Place(EVENTS, s), 1000))])
    second = worker_over(spec, a_store(spec, shelf), log)
    await start(second, log)
    await drain(second, log, rng, most=20)
    for place in [q for q in log.read if q.topic == UPDATES]:  # it believes to own them still
        await first.aggregate([(place, log.records[place])])
    assert states_of(shelf) == expected_states(spec, log.records)


async def test_a_stored_offset_outside_the_log_is_refused(spec: Spec) -> None:
    log, shelf = a_log(random.Random(6)), MemoryShelf()
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    await drain(owned, log, random.Random(6), most=20)
    log.records[Place(UPDATES, 1)] = log.records[Place(UPDATES, 1)][:2]
    with pytest.raises(OffsetOutsideLog, match="riskbeat rebuild"):
        await start(worker_over(spec, a_store(spec, shelf), log), log)


async def test_a_store_that_lost_its_last_second_is_filled_from_the_log(spec: Spec) -> None:
    rng, log, shelf = random.Random(7), a_log(random.Random(7)), MemoryShelf()
    heartbeats = FeaturizeLimits(range_heartbeat_s=0.0, idle_heartbeat_s=0.0)
    owned = worker_over(spec, a_store(spec, shelf), log, limits=heartbeats)
    await start(owned, log)
    for _ in range(20):
        await step(owned, log, rng.choice(log.behind()), 10)
    earlier = copy.deepcopy(shelf.partitions)
    await drain(owned, log, rng, most=20)
    shelf.partitions = earlier
    await drain(
        owned, log, rng, most=20
    )  # the next heartbeat meets a store that stands further back
    await drain(owned, log, rng, most=20)
    assert states_of(shelf) == expected_states(spec, log.records)


async def test_conflicts_without_end_stop_the_worker(spec: Spec) -> None:
    class Contested(MemoryFeatureStore):
        async def commit_batch(self, commit: Any) -> None:
            raise StoreConflict("always")

    log, shelf = a_log(random.Random(8)), MemoryShelf()
    store = Contested(shelf, partitions=UPDATES_PARTITIONS, spec_digest=spec.digest)
    owned = worker_over(spec, store, log)
    await start(owned, log)
    for s in (0, 1):
        await owned.route([(Place(EVENTS, s), log.poll(Place(EVENTS, s), 1000))])
    with pytest.raises(StoreConflict, match="in a row"):
        await owned.aggregate([(Place(UPDATES, 0), log.poll(Place(UPDATES, 0), 10))])
