"""Kafka topics → their records as they stand now, with partition, offset and time."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from features.cloud_event import plain_of_record
from features.event import EventRejected
from pipeline.replay_source import LogUnreadable

FETCH_RECORDS: Final = 5_000
POLL_TIMEOUT_MS: Final = 500
NO_EVENT: Final = b"null"


class TopicRecord(NamedTuple):
    """One record of a topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes


async def read_topics(
    kafka_options: Mapping[str, Any], topics: Sequence[str], events: str = ""
) -> list[TopicRecord]:
    """Return what topics hold, up to the ends that they have now; one topic after the other.

    Args:
        kafka_options: Which broker.
        topics: Their names.
        events: The one that holds events; those in the headers of a CloudEvent become plain.

    Raises:
        LogUnreadable: No broker, or no such topic.
    """
    found: list[TopicRecord] = []
    try:
        known = await _partitions(kafka_options)
        missing = [topic for topic in topics if not known.get(topic)]
        if missing:
            raise LogUnreadable(f"kafka: no topic {', '.join(missing)}")
        for topic in topics:
            places = [TopicPartition(topic, partition) for partition in known[topic]]
            consumer = AIOKafkaConsumer(**kafka_options, enable_auto_commit=False)
            consumer.assign(places)
            await consumer.start()
            try:
                found += await _read_one(consumer, places, events)
            finally:
                await consumer.stop()
    except KafkaError as error:
        raise LogUnreadable(f"kafka: {type(error).__name__}: {error}") from error
    return found


async def _partitions(kafka_options: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return every topic's partitions; a consumer knows only those of topics that it follows."""
    admin = AIOKafkaAdminClient(**kafka_options)
    await admin.start()
    try:
        described = await admin.describe_topics()  # all: naming an absent one might create it
    finally:
        await admin.close()
    return {
        topic["topic"]: sorted(partition["partition"] for partition in topic["partitions"])
        for topic in described
    }


async def _read_one(
    consumer: AIOKafkaConsumer, places: Sequence[TopicPartition], events: str
) -> list[TopicRecord]:
    begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
    unread = {place for place in places if begins[place] < ends[place]}
    for place in places:
        consumer.seek(place, begins[place])
    found: list[TopicRecord] = []
    while unread:
        batches = await consumer.getmany(timeout_ms=POLL_TIMEOUT_MS, max_records=FETCH_RECORDS)
        for place, batch in batches.items():
            found += [
                TopicRecord(
                    place.topic,
                    place.partition,
                    r.offset,
                    r.timestamp,
                    _plain(r.headers, r.value) if place.topic == events else r.value,
                )
                for r in batch
                if r.value and r.offset < ends[place]
            ]
        for place in list(unread):
            if await consumer.position(place) >= ends[place]:
                unread.discard(place)
    return found


def _plain(headers: Sequence[tuple[str, bytes]], value: bytes) -> bytes:
    """Return an event's plain body; what was rejected when it came stays no event."""
    try:
        return plain_of_record(headers, value)
    except EventRejected:
        return NO_EVENT
