"""Offsets come back where the log has forgotten them, and are never set back."""

import pytest
from aiokafka import AIOKafkaProducer

from pipeline.topics_kafka import TopicPlan, ensure_topics
from riskbeat.backup_kafka import commit_offsets, forgotten, read_offsets

pytestmark = pytest.mark.live

RECORDS = 5


async def test_only_what_was_forgotten_comes_back(kafka_bootstrap: str, topic_prefix: str) -> None:
    options = {"bootstrap_servers": kafka_bootstrap}
    topic, group = f"{topic_prefix}events.v1", f"{topic_prefix}decide"
    await ensure_topics(options, [TopicPlan(topic, 2, 3_600_000)])
    async with AIOKafkaProducer(**options, acks="all") as producer:
        for number in range(RECORDS):
            await producer.send_and_wait(topic, b"%d" % number, partition=0)
    assert await read_offsets(options, topic_prefix) == {}

    kept = {group: {f"{topic}:0": 3, f"{topic}:1": 0}}
    assert await forgotten(options, topic_prefix, kept) == kept
    await commit_offsets(options, kept)
    assert await read_offsets(options, topic_prefix) == kept

    older = {group: {f"{topic}:0": 1, f"{topic}:1": 0}}
    assert await forgotten(options, topic_prefix, older) == {}
    beyond = {f"{topic_prefix}other": {f"{topic}:0": RECORDS + 1, f"{topic_prefix}none:0": 0}}
    assert await forgotten(options, topic_prefix, beyond) == {}
    assert await read_offsets(options, "another prefix") == {}
