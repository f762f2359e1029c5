"""Kafka topics → a JSON Lines file, so that a topic can be sorted and replayed as any log."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from pipeline.replay_source import LogUnreadable

FETCH_RECORDS: Final = 5_000


async def spool_topics(
    kafka_options: Mapping[str, Any],
    topics: Sequence[str],
    path: Path,
    on_records: Callable[[int], None] | None = None,
) -> int:
    """Copy what the topics hold now, one record a line; return how many there were.

    The file appears when it is complete. Line breaks within a record (between JSON tokens) become
    spaces. Records without a value are left out.

    Raises:
        LogUnreadable: No broker, or no such topic.
    """
    consumer = AIOKafkaConsumer(
        **kafka_options, enable_auto_commit=False, auto_offset_reset="earliest"
    )
    unfinished = path.with_name(f".{path.name}.unfinished")
    records = 0
    try:
        places = await _places(kafka_options, topics)
        await consumer.start()
        ends = await consumer.end_offsets(places)
        begins = await consumer.beginning_offsets(places)
        unread = {place for place in places if begins[place] < ends[place]}
        consumer.assign(sorted(unread))
        for place in unread:
            consumer.seek(place, begins[place])
        with unfinished.open("wb") as file:
            while unread:
                found = await consumer.getmany(timeout_ms=500, max_records=FETCH_RECORDS)
                for place, batch in found.items():
                    lines = [r.value for r in batch if r.value and r.offset < ends[place]]
                    file.writelines(_one_line(line) for line in lines)
                    records += len(lines)
                if on_records is not None:
                    on_records(records)
                for place in list(unread):
                    if await consumer.position(place) >= ends[place]:
                        unread.discard(place)
        unfinished.replace(path)
    except KafkaError as error:
        raise LogUnreadable(f"kafka: {type(error).__name__}: {error}") from error
    finally:
        await consumer.stop()
        unfinished.unlink(missing_ok=True)
    return records


async def _places(kafka_options: Mapping[str, Any], topics: Sequence[str]) -> list[TopicPartition]:
    """Return the partitions of the topics, all of which must be there."""
    admin = AIOKafkaAdminClient(**kafka_options)
    try:
        await admin.start()
        known = await admin.list_topics()
        missing = [topic for topic in topics if topic not in known]
        if missing:
            raise LogUnreadable(f"kafka: no topic {', '.join(missing)}")
        return [
            TopicPartition(topic["topic"], partition["partition"])
            for topic in await admin.describe_topics(list(topics))
            for partition in topic["partitions"]
        ]
    finally:
        await admin.close()


def _one_line(body: bytes) -> bytes:
    return body.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n"
