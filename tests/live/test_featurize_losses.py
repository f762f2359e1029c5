"""What a featurize worker does when Redis stops, forgets or is emptied, and a rebuild after it."""

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis

from features.spec import Spec
from features.store import Pointer
from tests.fakes_featurize import expected_states
from tests.live.featurizing import SETTLED_S, Stage, produce, staged, wait_until_opened
from tests.live.servers import Server, answering

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

OUTAGE_S = 8.0  # longer than the client's timeout of 5 s, shorter than `store_wait_s`


@pytest.fixture
async def stage(
    kafka_bootstrap: str, redis_server: Server, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with staged(
        kafka_bootstrap, redis_server.address, topic_prefix, "losses:", tmp_path
    ) as made:
        yield made


async def assert_exact(stage: Stage, worker: subprocess.Popen[bytes]) -> None:
    logs = await stage.logs()
    await stage.settle(logs, worker)
    expected = expected_states(stage.spec, logs, stage.layout)
    assert await stage.states(list(expected)) == expected


async def wait_for_exit(worker: subprocess.Popen[bytes]) -> int:
    return await asyncio.to_thread(worker.wait, SETTLED_S)


async def test_a_worker_outlives_a_silent_and_a_killed_redis(
    stage: Stage, redis_server: Server
) -> None:
    assert redis_server.host is not None
    with stage.running() as worker:
        await wait_until_opened(stage, worker)
        sending = asyncio.create_task(produce(stage, random.Random(3), 2_000, 0.3))
        redis_server.host.pause()
        await asyncio.sleep(OUTAGE_S)
        redis_server.host.resume()
        answering(redis_server)
        await asyncio.sleep(1)
        redis_server.host.kill()
        redis_server.host.start()
        await asyncio.to_thread(answering, redis_server)
        await sending
        await assert_exact(stage, worker)


async def test_an_emptied_redis_is_filled_from_the_log(stage: Stage, redis_server: Server) -> None:
    with stage.running() as worker:
        await produce(stage, random.Random(4), 500, 0)
        await assert_exact(stage, worker)
        with redis.Redis.from_url(redis_server.address) as client:
            client.flushall()
        await assert_exact(stage, worker)


async def test_a_rebuild_replaces_the_living_epoch(stage: Stage, redis_server: Server) -> None:
    await produce(stage, random.Random(5), 500, 0)
    with stage.running() as worker:
        await assert_exact(stage, worker)
        with stage.running("rebuild") as rebuild:
            assert await wait_for_exit(rebuild) == 0, stage.log.read_text()[-4000:]
        assert await wait_for_exit(worker) == 1
        assert "StoreEpochMismatch" in stage.log.read_text()
    after = Pointer(1, f"{stage.topics.updates}.e1", 4, stage.spec.digest)
    assert await stage.store.read_pointer() == after
    await produce(stage, random.Random(6), 100, 0)
    with stage.running() as worker:
        await assert_exact(stage, worker)
    with redis.Redis.from_url(redis_server.address) as client:
        left = list(client.scan_iter("losses:0:*:s:*"))
    assert left == []


async def test_another_spec_is_refused_by_name_until_rebuilt(stage: Stage, tmp_path: Path) -> None:
    await produce(stage, random.Random(7), 200, 0)
    with stage.running() as worker:
        await assert_exact(stage, worker)
    changed = rewritten(Path(stage.env["RISKBEAT_SPEC_PATH"]), tmp_path)
    stage.env["RISKBEAT_SPEC_PATH"] = str(changed)
    with stage.running() as worker:
        assert await wait_for_exit(worker) == 1
    assert "riskbeat rebuild" in stage.log.read_text()
    with stage.running("rebuild") as rebuild:
        assert await wait_for_exit(rebuild) == 0, stage.log.read_text()[-4000:]
    stage.adopt(Spec.load(changed))
    with stage.running() as worker:
        await assert_exact(stage, worker)


def rewritten(spec: Path, folder: Path) -> Path:
    """Return a spec file that means the same features, by another rate table."""
    changed = folder / "features.yaml"
    changed.write_text(spec.read_text().replace('rates_version: "', 'rates_version: "later '))
    return changed
