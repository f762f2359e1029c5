"""Featurize workers on a real broker and Redis, killed at random, against the brute force."""

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from features.store import Commit, StoreConflict, Watermarks
from tests.fakes_featurize import expected_states
from tests.live.featurizing import Stage, produce, staged, values, wait_until_opened
from tests.live.running import read_topic

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("RISKBEAT_CHAOS_KILLS", "5"))
EVENTS = 6_000
ALIVE_S = (0.5, 6.0)  # how long a worker may live before it is killed


@pytest.fixture
async def stage(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with staged(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path) as made:
        yield made


@pytest.mark.apache
async def test_workers_killed_at_random_lose_and_double_nothing(stage: Stage) -> None:
    rng = random.Random(int(os.environ.get("RISKBEAT_CHAOS_SEED", "1")))
    seconds = KILLS * sum(ALIVE_S) / 2 + 5
    sending = asyncio.create_task(produce(stage, rng, EVENTS, seconds * 40 / EVENTS))
    for _ in range(KILLS):
        with stage.running() as worker:
            await wait_until_opened(stage, worker)
            await asyncio.sleep(rng.uniform(*ALIVE_S))
    await sending
    with stage.running() as worker:
        logs = await stage.logs()
        await stage.settle(logs, worker)
        expected = expected_states(stage.spec, logs, stage.layout)
        assert await stage.states(list(expected)) == expected
    letters = await read_topic(stage.kafka, stage.topics.dead)
    rejected = {
        (place.partition, record.offset)
        for place, records in logs.items()
        for record in records
        if b"null" in record.value
    }
    assert {(x["partition"], x["offset"]) for x in map(json.loads, values(letters))} == rejected


async def test_a_zombies_commit_is_refused_by_redis(stage: Stage) -> None:
    await produce(stage, random.Random(2), 200, 0)
    with stage.running() as worker:
        logs = await stage.logs()
        await stage.settle(logs, worker)
    await stage.store.attach()
    zombie = Commit(0, 0, 1, Watermarks(), 0, {b"k": b"zombie"})
    with pytest.raises(StoreConflict):
        await stage.store.commit_batch(zombie)
    assert await stage.store.load_many(0, [b"k"]) == [b""]


async def test_an_asked_worker_stops_with_zero(stage: Stage) -> None:
    with stage.running() as worker:
        await wait_until_opened(stage, worker)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 30) == 0
