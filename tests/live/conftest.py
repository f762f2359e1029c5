"""Where the live tests of learners run."""

from pathlib import Path

import pytest

from features.topics import Topics
from pipeline.topics_kafka import TopicPlan, ensure_topics
from tests.live.learning import PARTITIONS, SPEC_DIGEST, WEEK_MS, Place


@pytest.fixture
async def place(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Place:
    topics = Topics(topic_prefix)
    plans = [
        TopicPlan(name, count, WEEK_MS)
        for name, count in (
            (topics.decisions, PARTITIONS),
            (topics.labels, PARTITIONS),
            (topics.label_updates, PARTITIONS),
            (topics.weights(SPEC_DIGEST), 1),
            (topics.dead, 1),
        )
    ]
    await ensure_topics({"bootstrap_servers": kafka_bootstrap}, plans)
    return Place(kafka_bootstrap, redis_url, redis_prefix, topics, tmp_path, tmp_path / "log")
