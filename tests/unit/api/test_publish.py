"""What the log does not take waits on disk, and reaches the log when it is back."""

import asyncio
from pathlib import Path

import pytest

from api.errors import NotRecorded
from api.publish import UNKNOWN_POSITION, Outgoing, Position, SpoolingPublisher
from api.spool import Spool
from tests.fakes_serving import MemoryPublisher

RECORDS = [Outgoing("t", b"k", b"v%d" % i, (("h", b"1"),)) for i in range(3)]


def a_publisher(log: MemoryPublisher, path: Path, max_bytes: int = 10_000) -> SpoolingPublisher:
    return SpoolingPublisher(log, Spool(path, max_bytes), 0.1, 1.0, 0.001)


async def test_records_go_to_the_log_when_it_answers(tmp_path: Path) -> None:
    log = MemoryPublisher()
    publisher = a_publisher(log, tmp_path / "s")
    assert await publisher.try_log()
    assert await publisher.publish_many(RECORDS) == [Position(0, 0), Position(0, 1), Position(0, 2)]
    assert log.records == RECORDS
    await publisher.stop()
    assert log.stopped


async def test_a_log_that_was_never_there_is_waited_for(tmp_path: Path) -> None:
    log = MemoryPublisher()
    log.away = True
    publisher = a_publisher(log, tmp_path / "s")
    assert not await publisher.try_log()
    assert await publisher.publish_many(RECORDS) == [UNKNOWN_POSITION] * 3
    log.away = False
    stopping = asyncio.Event()
    running = asyncio.create_task(publisher.run(stopping))
    async with asyncio.timeout(10):
        while publisher.away:  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)
    stopping.set()
    await running
    assert log.records == RECORDS
    assert publisher.spool_bytes == 0
    await publisher.stop()


async def test_a_log_that_stops_answering_costs_one_wait_and_no_record(tmp_path: Path) -> None:
    log = MemoryPublisher()
    publisher = a_publisher(log, tmp_path / "s")
    await publisher.try_log()
    log.away = True
    assert await publisher.publish_many(RECORDS[:1]) == [UNKNOWN_POSITION]
    assert publisher.away
    assert await publisher.publish_many(RECORDS[1:]) == [UNKNOWN_POSITION] * 2
    await publisher.stop()  # the process ends; its successor finds the file
    log.away = False
    successor = a_publisher(log, tmp_path / "s")
    assert await successor.try_log()
    assert log.records == RECORDS
    await successor.stop()


async def test_a_full_spool_says_no(tmp_path: Path) -> None:
    log = MemoryPublisher()
    log.away = True
    publisher = a_publisher(log, tmp_path / "s", max_bytes=10)
    with pytest.raises(NotRecorded):
        await publisher.publish_many(RECORDS)
    await publisher.stop()
