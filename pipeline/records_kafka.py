"""Kafka topics → their records as they stand now, with partition, offset and time."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from pipeline.replay_source import LogUnreadable

FETCH_RECORDS: Final = 5_000
POLL_TIMEOUT_MS: Final = 500


class TopicRecord(NamedTuple):
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes


async def read_topics(kafka_options: Mapping[str, Any], topics: Sequence[str]) -> list[TopicRecord]:
    """Return what topics hold, up to the ends that they have now; one topic after the other.

    Raises:
        LogUnreadable: No broker, or no such topic.
    """
    found: list[TopicRecord] = []
    consumer = AIOKafkaConsumer(
        **kafka_options, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        await consumer.start()
        known = await consumer.topics()
        missing = [topic for topic in topics if topic not in known]
        if missing:
            raise LogUnreadable(f"kafka: no topic {', '.join(missing)}")
        for topic in topics:
            found += await _read_one(consumer, topic)
    except KafkaError as error:
        raise LogUnreadable(f"kafka: {type(error).__name__}: {error}") from error
    finally:
        await consumer.stop()
    return found


async def _read_one(consumer: AIOKafkaConsumer, topic: str) -> list[TopicRecord]:
    partitions = consumer.partitions_for_topic(topic) or set()
    places = [TopicPartition(topic, partition) for partition in sorted(partitions)]
    begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    unread = {place for place in places if begins[place] < ends[place]}
    consumer.assign(sorted(unread))
    for place in unread:
        consumer.seek(place, begins[place])
    found: list[TopicRecord] = []
    while unread:
        batches = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=FETCH_RECORDS)
        for place, batch in batches.items():
            found += [
                TopicRecord(topic, place.partition, r.offset, r.timestamp, r.value)
                for r in batch
                if r.value and r.offset < ends[place]
            ]
        for place in list(unread):
            if await consumer.position(place) >= ends[place]:
                unread.discard(place)
    return found
