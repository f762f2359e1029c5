"""Several serve processes on one port: counted as one, started again, rolled and drained."""

import asyncio
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from tests.live.stage import START_DEADLINE_S, Stage, ends_well, on_stage, until

pytestmark = pytest.mark.live


def workers_of(stage: Stage) -> set[int]:
    found = set()
    for child in psutil.Process(stage.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # it ended while we looked: it is none
            if "riskbeat.serve_worker" in child.cmdline():
                found.add(child.pid)
    return found


async def counted(stage: Stage, metric: str) -> float:
    page = (await stage.http.get("/metrics")).text
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in page.splitlines()
        if re.match(rf"{metric}[{{ ]", line)
    )


async def ask(stage: Stage, names: list[str]) -> list[int]:
    """Ask for each over a connection of its own, so that all workers get some.

    Returns:
        The versions of the weights that answered.
    """
    versions = []
    for name in names:
        async with httpx.AsyncClient(base_url=stage.http.base_url, timeout=10.0) as http:
            answer = await http.post("/v1/decisions", json=a_body(name))
            assert answer.status_code == 200
            versions.append(answer.json()["model"]["version"])
    return versions


def a_body(name: str) -> dict[str, object]:
    return {
        "event_type": "card_payment",
        "event_id": name,
        "event_time": "2026-03-01T12:00:00.120Z",
        "entities": {"card": "c1", "merchant": "m1"},
        "amount": {"value": 1, "currency": "EUR"},
    }


async def test_several_workers_are_one_service(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with on_stage(
        tmp_path,
        kafka_bootstrap,
        redis_url,
        topic_prefix,
        redis_prefix,
        RISKBEAT_HTTP_WORKERS="2",
        RISKBEAT_FIRST_WEIGHTS_WAIT_S="0",
    ) as stage:

        async def both() -> set[int]:
            found = workers_of(stage)
            lines = stage.log.read_text().count("serve.started")
            return found if len(found) == 2 and lines >= 2 else set()

        first = await until("two workers", both, START_DEADLINE_S)
        await stage.publish(1)

        async def active() -> bool:
            page = (await stage.http.get("/metrics")).text
            return len(re.findall(r'riskbeat_weights_version\{pid="\d"\} 1\.0', page)) == 2

        await until("both workers have version 1", active)
        await ask(stage, [f"p{i}" for i in range(40)])
        assert await counted(stage, "riskbeat_decisions_total") == 40

        done = asyncio.Event()
        asked: list[str] = []

        async def keep_asking() -> None:
            while not done.is_set():
                asked.append(f"r{len(asked)}")
                await ask(stage, [asked[-1]])
                kept = await stage.decide(f"k{len(asked)}")
                assert kept.status_code == 200

        asking = asyncio.create_task(keep_asking())
        stage.process.send_signal(signal.SIGHUP)

        async def rolled() -> bool:
            return not workers_of(stage) & first and len(workers_of(stage)) == 2

        await until("both workers are new", rolled, START_DEADLINE_S)
        done.set()
        await asking
        assert await counted(stage, "riskbeat_decisions_total") == 40 + 2 * len(asked)

        second = workers_of(stage)
        os.kill(min(second), signal.SIGKILL)

        async def again() -> bool:
            return len(workers_of(stage)) == 2 and min(second) not in workers_of(stage)

        await until("the dead one is started again", again, START_DEADLINE_S)
        await until("it has weights", active, START_DEADLINE_S)
        await asyncio.to_thread(ends_well, stage)
        assert not psutil.pid_exists(max(second))


async def test_workers_end_when_the_one_who_started_them_is_killed(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with on_stage(
        tmp_path,
        kafka_bootstrap,
        redis_url,
        topic_prefix,
        redis_prefix,
        RISKBEAT_HTTP_WORKERS="2",
        RISKBEAT_FIRST_WEIGHTS_WAIT_S="0",
    ) as stage:
        workers = workers_of(stage)
        assert workers
        stage.process.kill()

        async def gone() -> bool:
            return not any(psutil.pid_exists(pid) for pid in workers)

        await until("no worker is left", gone)


async def test_the_spare_answers_when_the_only_worker_is_killed(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    """Nobody is refused, and it has the weights that the dead one had; stopped, all of it ends."""
    async with on_stage(
        tmp_path,
        kafka_bootstrap,
        redis_url,
        topic_prefix,
        redis_prefix,
        RISKBEAT_HTTP_SPARE="true",
        RISKBEAT_FIRST_WEIGHTS_WAIT_S="0",
    ) as stage:
        await stage.publish(1)

        async def follows() -> bool:
            page = (await stage.http.get("/metrics")).text
            return len(re.findall(r'riskbeat_weights_version\{pid="\d"\} 1\.0', page)) == 2

        await until("the worker and its spare have version 1", follows, START_DEADLINE_S)
        worker, spare = started(stage)
        os.kill(worker, signal.SIGKILL)
        assert await ask(stage, ["after"]) == [1]
        assert re.search(r"worker.called.*\bworker\W+1\b", stage.log.read_text())
        await asyncio.to_thread(ends_well, stage)
        assert not psutil.pid_exists(spare)


def started(stage: Stage) -> list[int]:
    """Return the workers' process ids in the order in which they were started."""
    return [int(n) for n in re.findall(r"worker\.started.*?\bpid\W+(\d+)", stage.log.read_text())]
