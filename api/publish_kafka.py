"""Facts into Kafka: one producer, all acks.

Not idempotent on purpose: an idempotent producer that gives up a batch is broken until it is
made anew, and this one must survive a broker's absence. What it may send twice is counted once
by its identity.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from api.publish import LogUnavailable, Outgoing, Position

RECORD_MAX_BYTES = 1_048_576


class KafkaPublisher:
    """The way into the log for the HTTP door."""

    def __init__(self, kafka_options: Mapping[str, Any], client_id: str) -> None:
        """Keep the options; nothing connects before `start`.

        Args:
            kafka_options: Addresses and security, as aiokafka's clients take them.
            client_id: Name that the broker's logs show.
        """
        self._options = dict(kafka_options)
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect; see `publish.Publisher`."""
        producer = AIOKafkaProducer(
            **self._options,
            client_id=self._client_id,
            acks="all",
            linger_ms=0,
            max_request_size=RECORD_MAX_BYTES,
        )
        try:
            await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise LogUnavailable(str(error) or type(error).__name__) from error
        self._producer = producer

    async def publish_many(self, records: Sequence[Outgoing], timeout_s: float) -> list[Position]:
        """Send all and wait for their acks; see `publish.Publisher`."""
        producer = self._producer
        assert producer is not None, "start comes first"
        try:
            async with asyncio.timeout(timeout_s):
                acks = [
                    await producer.send(
                        record.topic, record.value, key=record.key, headers=list(record.headers)
                    )
                    for record in records
                ]
                done = await asyncio.gather(*acks)
        except (KafkaError, OSError, TimeoutError) as error:
            raise LogUnavailable(str(error) or type(error).__name__) from error
        return [Position(ack.partition, ack.offset) for ack in done]

    async def stop(self) -> None:
        """Flush and disconnect; see `publish.Publisher`."""
        if self._producer is not None:
            await self._producer.stop()
