"""The log read again, by offsets: what a learner took in, as often as somebody wants to check."""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from features.topics import Topics
from pipeline.learn_ports import Taken
from pipeline.relearn import CannotRelearn
from pipeline.versions_kafka import LogSilent

READ_TIMEOUT_S = 60.0
FETCH_RECORDS = 5_000


class KafkaLogReader:
    """`relearn.LogReader` on Kafka; used within `async with`.

    Each partition is read once, forwards, and what was fetched too far is kept for the next call.
    """

    def __init__(self, kafka_options: Mapping[str, Any], topics: Topics) -> None:
        """Hold what a consumer is made with."""
        self._options = dict(kafka_options)
        self._decisions = topics.decisions
        self._consumers: dict[str, AIOKafkaConsumer] = {}
        self._ahead: dict[str, list[Taken]] = {}

    async def __aenter__(self) -> "KafkaLogReader":
        """Connect nothing yet: there is a consumer for each partition that is asked for."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        for consumer in self._consumers.values():
            await consumer.stop()

    async def read(self, source: str, first: int, last: int) -> list[Taken]:
        """Return the records of "topic:partition" with offsets in [first, last); see the port.

        Raises:
            LogSilent: The log did not answer.
        """
        topic, _, number = source.rpartition(":")
        partition = TopicPartition(topic, int(number))
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                consumer = self._consumers.get(source) or await self._open(partition, first)
                held = self._ahead[source]
                while not held or held[-1].offset < last - 1:
                    fetched = await consumer.getmany(
                        partition, timeout_ms=500, max_records=FETCH_RECORDS
                    )
                    held += [
                        Taken(
                            "decision" if topic == self._decisions else "label",
                            topic,
                            partition.partition,
                            record.offset,
                            record.timestamp,
                            record.value or b"",
                        )
                        for record in fetched.get(partition, [])
                    ]
        except (KafkaError, TimeoutError) as error:
            raise LogSilent(f"{source}: {type(error).__name__}: {error}") from error
        found = [taken for taken in held if taken.offset < last]
        self._ahead[source] = held[len(found) :]
        return found

    async def _open(self, partition: TopicPartition, first: int) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **self._options, group_id=None, enable_auto_commit=False, auto_offset_reset="none"
        )
        source = f"{partition.topic}:{partition.partition}"
        await consumer.start()
        self._consumers[source] = consumer
        self._ahead[source] = []
        consumer.assign([partition])
        begins = (await consumer.beginning_offsets([partition]))[partition]
        if begins > first:
            raise CannotRelearn(
                f"{source} begins at offset {begins}, and offset {first} is wanted: retention has "
                "cut the log. Give the copy of a later checkpoint"
            )
        consumer.seek(partition, first)
        return consumer
