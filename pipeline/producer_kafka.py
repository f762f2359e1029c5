"""bytes → log, acknowledged: one idempotent producer, whose failures end the process."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

PRODUCER_MAX_REQUEST_BYTES = 2 * 1024 * 1024
PRODUCER_BATCH_BYTES = 1024 * 1024
PRODUCER_TIMEOUT_S = 30.0


class SendFailed(RuntimeError):
    """A record may be missing in the log: the sender must stop, and repeat from its position."""


class LogProducer:
    """Sends to named partitions, in order, and waits for the acknowledgement of all replicas."""

    def __init__(self, kafka_options: Mapping[str, Any], *, linger_ms: int = 0) -> None:
        """Hold options; nothing is connected before `start`."""
        self._options = dict(kafka_options)
        self._linger_ms = linger_ms
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect."""
        ours = {
            "acks": "all",
            "enable_idempotence": True,
            "linger_ms": self._linger_ms,
            "max_batch_size": PRODUCER_BATCH_BYTES,
            "max_request_size": PRODUCER_MAX_REQUEST_BYTES,
            "request_timeout_ms": int(PRODUCER_TIMEOUT_S * 1000),
        }
        producer = AIOKafkaProducer(**{**self._options, **ours})
        self._producer = producer
        await producer.start()

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def send_all(self, topic: str, records: Iterable[tuple[int | None, bytes]]) -> list[int]:
        """Send (partition, value) records in order and wait until all are acknowledged.

        Returns:
            The offset that the log gave each record; -1 where it had the record already and no
            longer says which.

        Raises:
            SendFailed: At least one was not.
        """
        assert self._producer is not None
        try:
            pending = [
                await self._producer.send(topic, value, partition=partition)
                for partition, value in records
            ]
            return [metadata.offset for metadata in await asyncio.gather(*pending)]
        except KafkaError as error:
            raise SendFailed(f"{topic}: {type(error).__name__}: {error}") from error
