"""A worker that owns everything is handed its updates, and fetches only what it must."""

import random

from features.spec import Spec
from pipeline.featurize import Place
from tests.fakes import MemoryShelf
from tests.fakes_featurize import (
    EVENTS,
    PLACES,
    UPDATES,
    UPDATES_PARTITIONS,
    MemoryLog,
    drain,
    expected_states,
    start,
    worker_over,
)
from tests.unit.pipeline.test_featurize import a_log, a_store, spec, states_of

__all__ = ["spec"]


async def test_a_worker_alone_fetches_no_update(spec: Spec) -> None:
    rng, log, shelf = random.Random(1), a_log(random.Random(1)), MemoryShelf()
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    await drain(owned, log, rng, most=20)
    assert owned.feeds_itself()
    assert states_of(shelf) == expected_states(spec, log.records)
    assert all(log.read[Place(UPDATES, p)] == 0 for p in range(UPDATES_PARTITIONS))


async def test_a_worker_that_shares_the_sources_fetches(spec: Spec) -> None:
    log, shelf = a_log(random.Random(2)), MemoryShelf()
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log, [place for place in PLACES if place != Place(EVENTS, 1)])
    assert not owned.feeds_itself()


async def test_a_successor_fetches_what_its_predecessor_left(spec: Spec) -> None:
    rng, log, shelf = random.Random(3), a_log(random.Random(3)), MemoryShelf()
    first = worker_over(spec, a_store(spec, shelf), log)
    await start(first, log)
    await first.route([(Place(EVENTS, 0), log.poll(Place(EVENTS, 0), 1000))])
    second = worker_over(spec, a_store(spec, shelf), log)
    await start(second, log)  # what the first sent was handed over to nobody
    assert not second.feeds_itself()
    await drain(second, log, rng, most=20)
    assert second.feeds_itself()
    assert states_of(shelf) == expected_states(spec, log.records)


async def test_a_record_of_somebody_else_makes_it_fetch_again(spec: Spec) -> None:
    rng, log, shelf = random.Random(4), a_log(random.Random(4)), MemoryShelf()
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    place = Place(EVENTS, 0)
    await owned.route([(place, log.poll(place, 20))])
    while log.handed:
        await owned.aggregate(log.handed.pop(0))
    assert owned.feeds_itself()
    for p in range(UPDATES_PARTITIONS):  # a zombie repeats itself
        updates = log.records[Place(UPDATES, p)]
        log.append(Place(UPDATES, p), updates[0].value or b"")
    await owned.route([(place, log.poll(place, 1000))])
    while log.handed:
        await owned.aggregate(log.handed.pop(0))
    assert not owned.feeds_itself()
    await drain(owned, log, rng, most=20)
    assert owned.feeds_itself()
    assert states_of(shelf) == expected_states(spec, log.records)


async def test_what_the_log_holds_and_nobody_handed_over_is_fetched(spec: Spec) -> None:
    rng, log, shelf = random.Random(5), a_log(random.Random(5)), MemoryShelf()
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    await owned.route([(Place(EVENTS, 0), log.poll(Place(EVENTS, 0), 1000))])
    log.handed.clear()  # lost on the way
    assert owned.feeds_itself()
    owned.must_reach({place: len(log.records[place]) for place in PLACES})
    assert not owned.feeds_itself()
    await drain(owned, log, rng, most=20)
    assert states_of(shelf) == expected_states(spec, log.records)


class ForgetfulLog(MemoryLog):
    """Does not say where it put what it had already."""

    async def send_all(self, topic: str, records: object) -> list[int]:
        return [-1 for _ in await super().send_all(topic, records)]  # type: ignore[arg-type]


async def test_a_log_that_does_not_tell_its_offsets_is_read(spec: Spec) -> None:
    rng, log, shelf = random.Random(6), ForgetfulLog(), MemoryShelf()
    log.records = a_log(random.Random(6)).records
    owned = worker_over(spec, a_store(spec, shelf), log)
    await start(owned, log)
    await drain(owned, log, rng, most=20)
    assert not owned.feeds_itself()
    assert states_of(shelf) == expected_states(spec, log.records)
