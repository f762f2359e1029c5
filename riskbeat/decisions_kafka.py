"""decisions.v1 → records, all or the newest: what a spectator sees. Commits nothing."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from models.decision import DecisionRecord
from models.decision_codec import decode_record

FETCH_MAX_RECORDS = 2_000
POLL_TIMEOUT_MS = 100


class LogSilent(ConnectionError):
    """The brokers did not answer."""


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


async def newest_decisions(
    kafka_options: Mapping[str, Any], topic: str, last: int
) -> AsyncIterator[list[DecisionRecord]]:
    """Yield batches of the newest decisions, up to where the topic ended when this was asked.

    Args:
        kafka_options: How to reach the brokers.
        topic: Of decisions.
        last: About so many: as many of each partition as make up that number.

    Raises:
        EventRejected: A record is no decision.
        LogSilent: The brokers did not answer.
    """
    consumer = AIOKafkaConsumer(enable_auto_commit=False, **kafka_options)
    try:
        await consumer.start()
        numbers = consumer.partitions_for_topic(topic) or await _partitions(consumer, topic)
        places = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer.assign(places)
        begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
        each = -(-last // max(len(places), 1))
        at = {place: max(begins[place], ends[place] - each) for place in places}
        for place in places:
            consumer.seek(place, at[place])
        while any(at[place] < ends[place] for place in places):
            batches = await consumer.getmany(
                timeout_ms=POLL_TIMEOUT_MS, max_records=FETCH_MAX_RECORDS
            )
            for place, records in batches.items():
                yield [decode_record(one.value) for one in records if one.offset < ends[place]]
            for place in places:
                at[place] = await consumer.position(place)
    except KafkaError as error:
        raise LogSilent(f"{topic}: {error}") from error
    finally:
        await consumer.stop()


async def _partitions(consumer: AIOKafkaConsumer, topic: str) -> set[int]:
    """Ask for a topic that the first answer of the brokers did not name."""
    await consumer.topics()
    return set(consumer.partitions_for_topic(topic) or ())
