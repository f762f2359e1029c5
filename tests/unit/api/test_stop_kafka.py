"""A fetch that a consumer cancels while it stops is no cancellation of who stops it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import Fetcher

from api.stop_kafka import stop_consumer

LONG_S = 60.0


@pytest.fixture
async def consumer() -> AsyncIterator[AIOKafkaConsumer]:
    """The library's own, never connected, with two fetches that wait to try again."""
    made = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    fetcher = made._fetcher = Fetcher.__new__(Fetcher)  # with nothing but what `close` ends
    fetcher._fetch_waiters = set()
    fetcher._fetch_task, *waiting = (asyncio.create_task(asyncio.sleep(LONG_S)) for _ in range(3))
    fetcher._pending_tasks = set(waiting)
    await asyncio.sleep(0)
    yield made
    made._closed = True
    for task in (fetcher._fetch_task, *waiting):
        task.cancel()


async def test_the_library_lets_its_own_cancellation_out(consumer: AIOKafkaConsumer) -> None:
    """If it does not any more, `stop_consumer` is not needed any more."""
    with pytest.raises(asyncio.CancelledError):
        await consumer.stop()


async def test_who_stops_it_goes_on_and_nothing_is_left(
    consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = asyncio.Event()

    async def close() -> None:
        closed.set()

    monkeypatch.setattr(consumer._client, "close", close)
    await stop_consumer(consumer)
    await asyncio.wait(consumer._fetcher._pending_tasks)
    assert closed.is_set()


async def test_who_is_cancelled_meanwhile_is(
    consumer: AIOKafkaConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop() -> None:
        await asyncio.sleep(LONG_S)

    monkeypatch.setattr(consumer, "stop", stop)
    stopping = asyncio.create_task(stop_consumer(consumer))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
