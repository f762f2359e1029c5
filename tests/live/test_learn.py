"""A learner process that is killed at random: no version and no label is lost or doubled."""

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from features.client_redis import connect_redis
from features.event import identity
from features.spec import Spec
from features.topics import Topics
from features.update import LabelTransition
from models.registry_redis import RedisWeightsRegistry
from models.signing import load_public_keys
from models.weights import decode_verified, sha256_of
from pipeline.topics_kafka import TopicPlan, ensure_topics
from tests.builders_learn import a_decision, a_label

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
COMMAND = (
    "import sys; from riskbeat.learn import run_learner; "
    "from riskbeat.settings_load import load_settings; sys.exit(run_learner(load_settings()))"
)
SPEC_DIGEST = Spec.load(ROOT / "features.yaml").digest
PARTITIONS = 2
KILLS = 5
EVENTS = 1500
DEADLINE_S = 60.0
WEEK_MS = 7 * 86_400_000


@dataclass
class Place:
    """Where a learner of this test lives."""

    bootstrap: str
    redis_url: str
    redis_prefix: str
    topics: Topics
    folder: Path
    log: Path

    @property
    def weights(self) -> str:
        return self.topics.weights(SPEC_DIGEST)

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "RISKBEAT_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "RISKBEAT_REDIS_URL": self.redis_url,
            "RISKBEAT_REDIS_PREFIX": self.redis_prefix,
            "RISKBEAT_TOPIC_PREFIX": self.topics.prefix,
            "RISKBEAT_LABELS_PARTITIONS": str(PARTITIONS),
            "RISKBEAT_DECISIONS_PARTITIONS": str(PARTITIONS),
            "RISKBEAT_DATA_DIR": str(self.folder),
            "RISKBEAT_SIGNING_KEY_PATH": str(self.folder / "private.pem"),
            "RISKBEAT_PUBLIC_KEY_PATHS": f'["{self.folder / "public.pem"}"]',
            "RISKBEAT_SPEC_PATH": str(ROOT / "features.yaml"),
            "RISKBEAT_PUBLISH_INTERVAL_S": "0.1",
            "RISKBEAT_PUBLISH_QUIET_S": "0.1",
        }

    async def learner(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                COMMAND,
                cwd=ROOT,
                env=self.environment(),
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
            )

    @asynccontextmanager
    async def registry(self) -> AsyncIterator[RedisWeightsRegistry]:
        client = connect_redis(self.redis_url)
        try:
            yield RedisWeightsRegistry(client, self.redis_prefix, SPEC_DIGEST)
        finally:
            await client.aclose()

    async def read_all(self, topic: str) -> list[tuple[int, bytes, bytes]]:
        """Every record of a topic: partition, key, value."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            count = 1 if topic == self.weights else PARTITIONS
            tps = [TopicPartition(topic, partition) for partition in range(count)]
            consumer.assign(tps)
            await consumer.seek_to_beginning(*tps)
            ends = await consumer.end_offsets(tps)
            found = []
            for tp in tps:
                while await consumer.position(tp) < ends[tp]:
                    for record in (await consumer.getmany(tp, timeout_ms=500)).get(tp, []):
                        found.append((tp.partition, record.key, record.value))
            return found
        finally:
            await consumer.stop()

    async def ends(self) -> dict[str, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            tps = [
                TopicPartition(topic, partition)
                for topic in (self.topics.decisions, self.topics.labels)
                for partition in range(PARTITIONS)
            ]
            found = await consumer.end_offsets(tps)
            return {f"{tp.topic}:{tp.partition}": end for tp, end in found.items()}
        finally:
            await consumer.stop()


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


async def feed(place: Place, first: int, last: int) -> int:
    """Append decisions, and a label for every third of them; return how many labels."""
    spec = Spec.load(ROOT / "features.yaml")
    start = datetime.now(UTC) - timedelta(days=2)
    producer = AIOKafkaProducer(bootstrap_servers=place.bootstrap, acks="all")
    await producer.start()
    labels = 0
    draws = np.random.default_rng(first)
    for index in range(first, last):
        x = draws.lognormal(0, 1, spec.n_features).astype(np.float32)
        at = start + timedelta(seconds=index)
        body = a_decision(f"e{index}", at, x, digest=spec.digest)
        await producer.send(place.topics.decisions, body, partition=index % PARTITIONS)
        if index % 3 == 0:
            label = a_label(f"e{index}", "fraud" if index % 6 else "legit", at)
            await producer.send(place.topics.labels, label, partition=index % PARTITIONS)
            labels += 1
    await producer.stop()
    return labels


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await done():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.02)


async def published(place: Place, version: int) -> bool:
    async with place.registry() as registry:
        return await registry.latest_version() >= version


async def caught_up(place: Place) -> bool:
    ends = await place.ends()
    async with place.registry() as registry:
        progress = await registry.progress()
    return progress is not None and all(
        progress.offsets.get(k, 0) >= v for k, v in ends.items() if v
    )


async def test_kill_9_loses_and_doubles_nothing(place: Place) -> None:
    draws = random.Random(11)
    labels = 0
    share = EVENTS // (KILLS + 1)
    for life in range(KILLS + 1):
        learner = await place.learner()
        labels += await feed(place, life * share, (life + 1) * share)
        if life == KILLS:
            break
        await until(partial(published, place, 1 + life))
        await asyncio.sleep(draws.uniform(0.0, 0.3))  # any moment will do
        learner.send_signal(signal.SIGKILL)
        await learner.wait()
    await until(lambda: caught_up(place))
    learner.send_signal(signal.SIGTERM)
    assert await learner.wait() == 0
    await check_versions(place, labels)
    await check_transitions(place, labels)


async def check_versions(place: Place, labels: int) -> None:
    keys = load_public_keys(place.folder / "public.pem")
    versions: dict[int, bytes] = {}
    for _, key, value in await place.read_all(place.weights):
        number = int(key.rpartition(b":")[2])
        assert versions.setdefault(number, value) == value, "a version has two meanings"
    assert sorted(versions) == list(range(1, len(versions) + 1))
    parent = ""
    learned = -1
    for number in sorted(versions):
        weights = decode_verified(versions[number], keys)
        assert (weights.version, weights.parent_sha256) == (number, parent)
        assert weights.labels_learned > learned
        learned = weights.labels_learned
        parent = sha256_of(versions[number])
    assert learned == labels
    async with place.registry() as registry:
        assert await registry.latest_version() == len(versions)
        assert await registry.read(len(versions)) == versions[len(versions)]


async def check_transitions(place: Place, labels: int) -> None:
    newest: dict[int, int] = {}
    subjects = []
    for partition, key, value in await place.read_all(place.topics.label_updates):
        transition = msgspec.json.decode(value, type=LabelTransition)
        if transition.seq <= newest.get(partition, 0):
            continue
        assert transition.seq == newest.get(partition, 0) + 1
        newest[partition] = transition.seq
        subject = identity(transition.tenant, transition.event_type, transition.event_id)
        assert key.decode() == subject
        assert transition.sign == 1
        subjects.append(subject)
    assert len(subjects) == len(set(subjects)) == labels


async def test_a_second_learner_on_the_same_disk_is_refused(place: Place) -> None:
    first = await place.learner()
    await until(lambda: published(place, 1))
    second = await place.learner()
    assert await second.wait() == 3
    first.send_signal(signal.SIGTERM)
    assert await first.wait() == 0


async def test_a_learner_that_lost_its_disk_is_refused(place: Place, tmp_path: Path) -> None:
    first = await place.learner()
    await until(lambda: published(place, 1))
    first.send_signal(signal.SIGTERM)
    assert await first.wait() == 0
    elsewhere = replace(place, folder=tmp_path / "other")
    second = await elsewhere.learner()
    assert await second.wait() == 3
