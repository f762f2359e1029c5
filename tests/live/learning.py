"""A place for learner processes: a broker, a store, a disk; what to feed them and wait for."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from features.client_redis import connect_redis
from features.spec import Spec
from features.topics import Topics
from models.registry_redis import RedisWeightsRegistry
from tests.builders_learn import a_decision, a_label

ROOT = Path(__file__).parents[2]
COMMAND = "import sys; from riskbeat.__main__ import main; sys.argv[0] = 'riskbeat'; main()"
SPEC_DIGEST = Spec.load(ROOT / "features.yaml").digest
PARTITIONS = 2
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

    def on_another_disk(self, folder: Path) -> "Place":
        return replace(self, folder=folder)

    async def learner(self, *options: str) -> asyncio.subprocess.Process:
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                COMMAND,
                "learn",
                *options,
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
