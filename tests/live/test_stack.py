"""The embedded stack answers while it runs; however it ends, nothing of it is left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import redis
from aiokafka import AIOKafkaProducer

from pipeline.topics_kafka import TopicPlan, ensure_topics
from riskbeat.ports import listens
from riskbeat.stack import LocalStack, StackFailed
from tests.live.servers import wait_until

pytestmark = pytest.mark.live

SCRIPT = """
import asyncio, json, signal
from riskbeat.stack import LocalStack

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it

async def main():
    async with LocalStack(workers=()) as stack:
        told = {"pids": list(stack.pids.values()), "folder": str(stack.folder)}
        print(json.dumps(told | {"kafka": stack.kafka, "redis": stack.redis_url}), flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[str]]:
    """A process that runs a stack, in a group of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        start_new_session=True,
    ) as process:
        yield process
        process.kill()


async def test_broker_and_store_answer_and_nothing_is_left_behind() -> None:
    async with LocalStack(workers=()) as stack:
        await ensure_topics({"bootstrap_servers": stack.kafka}, [TopicPlan("topic", 2, 60_000)])
        async with AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all") as producer:
            await producer.send_and_wait("topic", b"value")
        with redis.Redis.from_url(stack.redis_url) as client:
            assert client.info("memory")["maxmemory_policy"] == "noeviction"
            assert client.config_get("hz") == {"hz": "100"}
        folder, pids = stack.folder, list(stack.pids.values())
        ports = [port_of(stack.kafka), port_of(stack.redis_url)]
        assert stack.restarts == {"broker": 0, "valkey": 0}
    assert_nothing_left(folder, pids, ports)


async def test_a_kept_folder_keeps_the_store(tmp_path: Path) -> None:
    async with LocalStack(tmp_path / "kept", workers=()) as stack:
        with redis.Redis.from_url(stack.redis_url) as client:
            client.set("key", b"value")
    async with LocalStack(tmp_path / "kept", workers=()) as stack:
        with redis.Redis.from_url(stack.redis_url) as client:
            assert client.get("key") == b"value"


async def test_a_killed_store_comes_back_with_what_it_had() -> None:
    async with LocalStack(workers=()) as stack:
        with redis.Redis.from_url(stack.redis_url) as client:
            client.set("key", b"value")
            client.execute_command("WAITAOF", 1, 0, 5000)
        stack.kill("valkey")

        def back() -> bool:
            with redis.Redis.from_url(stack.redis_url) as client:
                try:
                    return client.get("key") == b"value"
                except redis.RedisError:
                    return False

        await wait_async(back)
        assert stack.restarts["valkey"] == 1


async def test_a_worker_that_cannot_start_is_named_with_its_last_words() -> None:
    with pytest.raises(StackFailed, match=r"prepare ended with code(.|\n)*RISKBEAT_HTTP_PORT"):
        async with LocalStack(environment={"RISKBEAT_HTTP_PORT": "none"}):
            pytest.fail("came up with a broken setting")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_the_owner_ends_all(
    owner: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert owner.stdout is not None
    told = json.loads(owner.stdout.readline())
    os.kill(owner.pid, number)
    owner.wait(30)
    wait_until(lambda: not Path(told["folder"]).exists(), "the folder is gone", 30)
    wait_until(lambda: not any(map(alive, told["pids"])), "the processes are gone", 30)
    ports = [port_of(told["kafka"]), port_of(told["redis"])]
    # A killed process is a zombie before its last thread has let go of its sockets.
    wait_until(lambda: not any(map(listens, ports)), "the ports are free", 30)
    assert_nothing_left(Path(told["folder"]), told["pids"], ports)


def port_of(address: str) -> int:
    return int(address.removesuffix("/0").rpartition(":")[2])


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_nothing_left(folder: Path, pids: list[int], ports: list[int]) -> None:
    assert not folder.exists()
    assert [pid for pid in pids if alive(pid)] == []
    assert [port for port in ports if listens(port)] == []


async def wait_async(true: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, true, "true", 30.0)
