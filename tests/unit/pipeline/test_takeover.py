"""What waits while partitions are taken over belongs to the reading before."""

import asyncio
import random

from features.spec import Spec
from features.store import Source
from pipeline.featurize import Place
from tests.fakes import MemoryFeatureStore, MemoryShelf
from tests.fakes_featurize import EVENTS, UPDATES_PARTITIONS, MemoryLog, start, worker_over
from tests.unit.pipeline.test_featurize import START_MS, an_event, spec

__all__ = ["spec"]


class SlowStore(MemoryFeatureStore):
    """A store whose answers about positions can be held back."""

    answers = asyncio.Event()

    async def load_position(self, source: Source, partition: int) -> int | None:
        await self.answers.wait()
        return await super().load_position(source, partition)


async def test_a_batch_that_waited_for_a_takeover_is_not_routed(spec: Spec) -> None:
    log, rng, place = MemoryLog(), random.Random(1), Place(EVENTS, 0)
    for n in range(6):
        log.append(place, an_event(n, START_MS + n, rng))
    store = SlowStore(MemoryShelf(), partitions=UPDATES_PARTITIONS, spec_digest=spec.digest)
    store.answers = asyncio.Event()
    store.answers.set()
    owned = worker_over(spec, store, log)
    await start(owned, log)
    await owned.route([(place, log.poll(place, 3))])
    store.answers.clear()
    taking_over = asyncio.create_task(owned.take_over([place]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting = asyncio.create_task(owned.route([(place, log.poll(place, 3))]))
    await asyncio.sleep(0)
    store.answers.set()
    offset = (await taking_over)[place]
    await waiting
    assert owned.progress()[place] == offset, "what lies between would be lost"
