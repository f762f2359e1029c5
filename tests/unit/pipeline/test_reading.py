"""What was fetched before its partition was taken over anew is not used, wherever it waited."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NoOffsetForPartitionError
from faust.types import TP

from pipeline.batch_faust import BatchConsumer
from pipeline.featurize import Place
from pipeline.mailbox import Mailbox

HERE = Place("events", 0)
RECORD = SimpleNamespace(offset=5, timestamp=0, timestamp_type=1, value=b"x")


class Consumer(BatchConsumer):
    """A consumer without Faust below it; the worker names offset 5 whenever it is asked."""

    app: Any
    flow_active: Any = True
    should_stop: Any = False

    def __init__(self) -> None:
        self.reading = None
        self._readings = 0
        self._beginning = asyncio.Lock()
        self._read_offset: Any = {}
        self.app = SimpleNamespace(
            consumer_generation_id=1,
            assign_partitions=self.assign,
            step_of_topic=lambda topic: topic,
        )
        self.sought: list[int] = []
        self.rebalances = False
        self.error: Exception | None = None

    async def assign(self, places: list[Place]) -> dict[Place, int]:
        return dict.fromkeys(places, 5)

    def assignment(self) -> Any:
        return {TP(*HERE)}

    async def seek_place(self, place: Place, offset: int) -> None:
        self.sought.append(offset)

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109
        if self.error:
            raise self.error
        if self.rebalances:  # while the fetch waits, partitions are assigned anew, and sought
            self.rebalances = False
            await self.perform_seek()
        return {TP(*HERE): [RECORD]}, {TP(*HERE)}

    async def fetch(self) -> list[Any]:
        fetched = [message.value async for _, message in self.getmany(1.0)]
        return [one for one in fetched if one.reading == self.reading]


@pytest.fixture
def consumer() -> Consumer:
    return Consumer()


async def test_what_is_fetched_in_a_reading_belongs_to_it(consumer: Consumer) -> None:
    await consumer.perform_seek()
    assert len(await consumer.fetch()) == 1
    assert consumer.sought == [5]


async def test_what_was_fetched_over_a_takeover_is_read_again(consumer: Consumer) -> None:
    await consumer.perform_seek()
    consumer.rebalances = True
    assert await consumer.fetch() == []
    assert consumer.sought == [5, 5, 5], "the client has gone on; nobody has the records"
    assert len(await consumer.fetch()) == 1


async def test_nothing_is_used_before_the_worker_named_an_offset(consumer: Consumer) -> None:
    assert await consumer.fetch() == []
    assert consumer.sought == [5]


async def test_a_group_that_never_committed_is_no_failure(consumer: Consumer) -> None:
    consumer.error = NoOffsetForPartitionError(HERE)
    assert await consumer.fetch() == []


async def test_what_waited_for_room_over_a_takeover_is_dropped() -> None:
    mail, current = Mailbox(1), True
    await mail.put([(HERE, [1])])
    waiting = asyncio.create_task(mail.put([(HERE, [2])], lambda: current))
    await asyncio.sleep(0)
    current = False
    await mail.clear()
    await waiting
    await mail.put([(HERE, [3])])
    assert await mail.take() == [(HERE, [3])]
