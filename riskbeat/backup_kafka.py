"""Kafka ↔ a part of a backup: how far each of our consumer groups has come.

Offsets in the log's own keeping are newer than a backup's, so they are never set back: what is put
back is only what the log has forgotten.
"""

from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

Offsets = dict[str, dict[str, int]]
"""Group → "topic:partition" → next offset."""


class OffsetsSilent(RuntimeError):
    """The broker did not tell, or did not take, the offsets of a group."""


async def read_offsets(kafka_options: Mapping[str, Any], prefix: str) -> Offsets:
    """Return what is committed by the groups whose names begin with a prefix.

    Raises:
        OffsetsSilent: No answer.
    """
    admin = AIOKafkaAdminClient(**kafka_options)
    try:
        await admin.start()
        groups = sorted(name for name, _ in await admin.list_consumer_groups())
        found: Offsets = {}
        for group in groups:
            if group.startswith(prefix):
                offsets = await admin.list_consumer_group_offsets(group)
                found[group] = {
                    f"{tp.topic}:{tp.partition}": kept.offset
                    for tp, kept in sorted(offsets.items())
                    if kept.offset >= 0
                }
        return found
    except (KafkaError, OSError) as error:
        raise OffsetsSilent(f"consumer groups: {type(error).__name__}: {error}") from error
    finally:
        await admin.close()


async def forgotten(kafka_options: Mapping[str, Any], prefix: str, kept: Offsets) -> Offsets:
    """Return those of a backup's offsets that the log has forgotten and still holds records of.

    Raises:
        OffsetsSilent: No answer.
    """
    stands = await read_offsets(kafka_options, prefix)
    lost: Offsets = {}
    consumer = AIOKafkaConsumer(**kafka_options, group_id=None, enable_auto_commit=False)
    try:
        await consumer.start()
        there = await consumer.topics()
        for group, offsets in kept.items():
            for source, offset in offsets.items():
                tp = _partition(source)
                if source in stands.get(group, {}) or tp.topic not in there:
                    continue
                first = (await consumer.beginning_offsets([tp]))[tp]
                end = (await consumer.end_offsets([tp]))[tp]
                if first <= offset <= end:
                    lost.setdefault(group, {})[source] = offset
        return lost
    except (KafkaError, OSError) as error:
        raise OffsetsSilent(f"offsets: {type(error).__name__}: {error}") from error
    finally:
        await consumer.stop()


async def commit_offsets(kafka_options: Mapping[str, Any], lost: Offsets) -> None:
    """Commit offsets for groups that nobody is a member of.

    Raises:
        OffsetsSilent: The broker did not take them.
    """
    for group, offsets in lost.items():
        consumer = AIOKafkaConsumer(**kafka_options, group_id=group, enable_auto_commit=False)
        try:
            await consumer.start()
            wanted = {_partition(source): offset for source, offset in offsets.items()}
            consumer.assign(list(wanted))
            await consumer.commit(wanted)
        except (KafkaError, OSError) as error:
            raise OffsetsSilent(f"group {group}: {type(error).__name__}: {error}") from error
        finally:
            await consumer.stop()


def _partition(source: str) -> TopicPartition:
    topic, _, number = source.rpartition(":")
    return TopicPartition(topic, int(number))
