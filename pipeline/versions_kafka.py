"""The weights topic, read from its end: versions are numbered, records are not."""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.pieces import Pieces, reach_back_to

SCAN_TIMEOUT_S = 60.0
TAIL_RECORDS = 4
TAIL_GROWTH = 8


class LogSilent(RuntimeError):
    """The log did not answer, or did not take a record."""


class KafkaVersions:
    """The versions that the topic holds; used within `async with`."""

    def __init__(self, kafka_options: Mapping[str, Any], topic: str, model: str) -> None:
        """Hold what a consumer is made with."""
        self._options = dict(kafka_options)
        self._model = model
        self._partition = TopicPartition(topic, 0)

    async def __aenter__(self) -> "KafkaVersions":
        """Connect.

        Raises:
            LogSilent: No broker answers.
        """
        self._consumer = AIOKafkaConsumer(
            **self._options, group_id=None, enable_auto_commit=False, auto_offset_reset="none"
        )
        try:
            async with asyncio.timeout(SCAN_TIMEOUT_S):
                await self._consumer.start()
        except (KafkaError, TimeoutError) as error:
            await self._consumer.stop()
            raise self._silent(error) from error
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def newest(self, enough: Callable[[dict[int, bytes]], bool]) -> dict[int, bytes]:
        """Return whole versions from the topic's end back to where they suffice, or to its start.

        Raises:
            LogSilent: The log did not answer.
        """
        return (await self._back_to(lambda pieces: enough(pieces.whole()))).whole()

    async def since(self, version: int) -> Pieces:
        """Return all that the topic holds from a version on, with what its chain needs before it.

        Raises:
            LogSilent: The log did not answer.
        """
        return await self._back_to(lambda pieces: reach_back_to(version, pieces.whole()))

    async def everything(self) -> Pieces:
        """Return all that the topic holds, pages of cuts included.

        Raises:
            LogSilent: The log did not answer.
        """
        return await self._back_to(lambda _: False)

    async def _back_to(self, enough: Callable[[Pieces], bool]) -> Pieces:
        pieces, tail = Pieces(self._model), TAIL_RECORDS
        tp, consumer = self._partition, self._consumer
        try:
            async with asyncio.timeout(SCAN_TIMEOUT_S):
                consumer.assign([tp])
                start = (await consumer.beginning_offsets([tp]))[tp]
                end = read_from = (await consumer.end_offsets([tp]))[tp]
                while read_from > start and not enough(pieces):
                    first = max(start, end - tail)
                    await self._read(pieces, first, read_from)
                    read_from, tail = first, tail * TAIL_GROWTH
        except (KafkaError, TimeoutError) as error:
            raise self._silent(error) from error
        return pieces

    async def _read(self, pieces: Pieces, first: int, last: int) -> None:
        tp, consumer = self._partition, self._consumer
        consumer.seek(tp, first)
        while await consumer.position(tp) < last:
            for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, []):
                if record.offset < last:
                    pieces.add(record.key or b"", record.headers, record.value or b"")

    def _silent(self, error: Exception) -> LogSilent:
        return LogSilent(f"{self._partition.topic}: {type(error).__name__}: {error}")
