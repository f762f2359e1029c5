"""The fixtures themselves: what they hand out works as the other live tests assume."""

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition

from pipeline.topics_kafka import TopicPlan, ensure_topics
from tests.live.servers import Server, answering

pytestmark = pytest.mark.live


async def test_a_record_that_was_acknowledged_is_read_back(
    kafka_bootstrap: str, topic_prefix: str
) -> None:
    topic = f"{topic_prefix}events.v1"
    await ensure_topics({"bootstrap_servers": kafka_bootstrap}, [TopicPlan(topic, 2, 60_000)])
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all") as producer:
        sent = await producer.send_and_wait(topic, b"value", key=b"key")
    async with AIOKafkaConsumer(bootstrap_servers=kafka_bootstrap) as consumer:
        consumer.assign([TopicPartition(topic, sent.partition)])
        consumer.seek(TopicPartition(topic, sent.partition), sent.offset)
        record = await consumer.getone()
    assert (record.key, record.value, record.offset) == (b"key", b"value", sent.offset)


def test_the_shared_redis_evicts_nothing(redis_url: str, redis_prefix: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set(f"{redis_prefix}key", b"value")
        assert client.get(f"{redis_prefix}key") == b"value"
        assert client.info("memory")["maxmemory_policy"] == "noeviction"


def test_a_redis_of_ones_own_keeps_its_data_over_a_stop(redis_server: Server) -> None:
    assert redis_server.host is not None
    with redis.Redis.from_url(redis_server.address) as client:
        client.set("key", b"value")
    redis_server.host.stop()
    with redis.Redis.from_url(redis_server.address) as client, pytest.raises(redis.RedisError):
        client.get("key")
    redis_server.host.start()
    answering(redis_server)
    with redis.Redis.from_url(redis_server.address) as client:
        assert client.get("key") == b"value"


def test_a_paused_redis_answers_after_it_resumes(redis_server: Server) -> None:
    assert redis_server.host is not None
    redis_server.host.pause()
    with (
        redis.Redis.from_url(redis_server.address, socket_timeout=0.2) as client,
        pytest.raises(redis.RedisError),
    ):
        client.get("key")
    redis_server.host.resume()
    answering(redis_server)
