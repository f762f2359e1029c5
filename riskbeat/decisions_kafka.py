"""decisions.v1 → records: what a spectator sees. Commits nothing and belongs to no group."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer

from models.decision import DecisionRecord, decode_record

FETCH_MAX_RECORDS = 2_000
POLL_TIMEOUT_MS = 100


async def decisions_of(
    kafka_options: Mapping[str, Any], topic: str
) -> AsyncIterator[list[DecisionRecord]]:
    """Yield batches of decisions from the topic's beginning; an empty one while nothing is new.

    Raises:
        EventRejected: A record is no decision.
    """
    consumer = AIOKafkaConsumer(topic, auto_offset_reset="earliest", **kafka_options)
    await consumer.start()
    try:
        while True:
            batches = await consumer.getmany(
                timeout_ms=POLL_TIMEOUT_MS, max_records=FETCH_MAX_RECORDS
            )
            yield [decode_record(record.value) for batch in batches.values() for record in batch]
    finally:
        await consumer.stop()
