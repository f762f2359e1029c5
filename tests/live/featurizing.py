"""A log and a store for featurize workers, what is sent to them, and when it is all applied."""

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from features.client_redis import Client, connect_redis
from features.event import from_ms
from features.spec import Spec
from features.store import StoreUnavailable, Watermarks
from features.store_redis import RedisFeatureStore
from features.topics import Topics
from pipeline.featurize import Layout, Place
from riskbeat.ports import free_ports
from tests.live.running import PARTITIONS, UPDATES_PARTITIONS, deployment, read_topic

ROOT = Path(__file__).parents[2]
SETTLED_S = 120.0
SESSION_TIMEOUT_S = 6.0  # the broker's floor


@dataclass
class Stage:
    """One deployment's log and store, and the workers over them."""

    spec: Spec
    kafka: str
    topics: Topics
    client: Client
    prefix: str
    env: dict[str, str]
    log: Path

    def __post_init__(self) -> None:
        self.adopt(self.spec)

    def adopt(self, spec: Spec) -> None:
        """Read the store as processes with this spec do."""
        self.spec = spec
        self.store = RedisFeatureStore(
            self.client,
            prefix=self.prefix,
            partitions=UPDATES_PARTITIONS,
            spec_digest=spec.digest,
            ttl_s=spec.ttl_s,
            updates_topic=self.topics.updates,
        )

    @property
    def layout(self) -> Layout:
        return Layout(
            {self.topics.events: "e", self.topics.label_updates: "l"},
            {"e": PARTITIONS, "l": PARTITIONS},
            self.topics.updates,
            UPDATES_PARTITIONS,
            self.topics.dead,
        )

    def start(self, command: str = "featurize") -> subprocess.Popen[bytes]:
        (port,) = free_ports(1)
        env = {**os.environ, **self.env, "RISKBEAT_METRICS_PORT": str(port)}
        with self.log.open("ab") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "riskbeat", command], env=env, stdout=out, stderr=out
            )

    @contextmanager
    def running(self, command: str = "featurize") -> Iterator[subprocess.Popen[bytes]]:
        worker = self.start(command)
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()

    async def logs(self) -> dict[Place, list[Any]]:
        logs: dict[Place, list[Any]] = {}
        for topic in self.layout.sources:
            for record in await read_topic(self.kafka, topic):
                logs.setdefault(Place(topic, record.partition), []).append(record)
        return logs

    async def settle(self, logs: dict[Place, list[Any]], worker: subprocess.Popen[bytes]) -> None:
        """Wait until every updates partition holds the whole log."""
        deadline = time.monotonic() + SETTLED_S
        one_of_each = [b"k%d" % i for i in range(200)]
        while True:
            assert worker.poll() is None, self.log.read_text()[-4000:]
            marks = await self._marks(one_of_each)
            if len(marks) == UPDATES_PARTITIONS and all(
                mark.mark(self.layout.sources[place.topic], place.partition).next_offset
                > records[-1].offset
                for mark in marks.values()
                for place, records in logs.items()
            ):
                return
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            await asyncio.sleep(0.1)

    async def _marks(self, keys: list[bytes]) -> dict[int, Watermarks]:
        """Return how far partitions are; of a store that is busy, nothing yet."""
        try:
            return dict((await self.store.read_many(keys)).watermarks)
        except StoreUnavailable:
            return {}

    async def states(self, keys: list[bytes]) -> dict[bytes, bytes]:
        blobs: list[bytes] = []
        for i in range(0, len(keys), 1000):
            blobs += (await self.store.read_many(keys[i : i + 1000])).blobs
        return dict(zip(keys, blobs, strict=True))


@asynccontextmanager
async def staged(
    kafka: str,
    redis_url: str,
    topic_prefix: str,
    redis_prefix: str,
    folder: Path,
    *,
    cluster: bool = False,
) -> AsyncIterator[Stage]:
    more = {
        "REDIS_CLUSTER": str(cluster),
        "SPEC_PATH": str(ROOT / "features.yaml"),
        "KAFKA_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
    }
    house = deployment(kafka, redis_url, topic_prefix, redis_prefix, folder, more)
    house.run("topics")
    spec = Spec.load(ROOT / "features.yaml")
    client = connect_redis(redis_url, cluster=cluster)
    log = folder / "featurize.log"
    try:
        yield Stage(spec, kafka, Topics(topic_prefix), client, redis_prefix, house.env, log)
    finally:
        await client.aclose()


def an_event(n: int, rng: random.Random, start_ms: int) -> bytes:
    late_ms = rng.choice([0, 0, 0, 30_000, 3 * 3_600_000])
    event = {
        "event_type": "card_payment",
        "event_id": f"e{n}",
        "event_time": from_ms(start_ms + n * 2_000 - late_ms).isoformat(),
        "entities": {
            "card": f"c{rng.randrange(300)}",
            "merchant": f"m{rng.randrange(20)}",
            "device": f"d{rng.randrange(200)}",
            "ip": f"i{rng.randrange(100)}",
        },
        "amount": {"value": rng.randrange(100, 90_000), "currency": "EUR"},
        "attributes": {"country": "FR"},
    }
    return json.dumps(event).encode()


def a_transition(s: int, seq: int, rng: random.Random, start_ms: int) -> bytes:
    return json.dumps(
        {
            "event_type": "card_payment",
            "event_id": f"e{seq}",
            "entities": {"card": f"c{rng.randrange(300)}", "merchant": f"m{rng.randrange(20)}"},
            "label_time": (from_ms(start_ms) + timedelta(minutes=seq)).isoformat(),
            "label": rng.choice(["fraud", "legit"]),
            "sign": 1,
            "seq": seq,
            "transition_id": f"t{s}.{seq}",
        }
    ).encode()


async def produce(stage: Stage, rng: random.Random, events: int, pause_s: float) -> None:
    """Send events with repeats, late ones and rejects, and repeated label transitions."""
    producer = AIOKafkaProducer(bootstrap_servers=stage.kafka, acks="all")
    await producer.start()
    start_ms = int(time.time() * 1000) - 24 * 3_600_000
    sent: list[tuple[int, bytes]] = []
    seqs = [0] * PARTITIONS
    try:
        for n in range(events):
            s, body = rng.randrange(PARTITIONS), an_event(n, rng, start_ms)
            if sent and rng.random() < 0.05:
                s, body = rng.choice(sent[-50:])
            if rng.random() < 0.01:
                body = b'{"event_type": null}'
            sent.append((s, body))
            await producer.send(stage.topics.events, body, partition=s)
            if n % 40 == 0:
                seqs[s] += 1
                transition = a_transition(s, seqs[s], rng, start_ms)
                for _ in range(rng.choice([1, 1, 2])):
                    await producer.send(stage.topics.label_updates, transition, partition=s)
                await asyncio.sleep(pause_s)
    finally:
        await producer.stop()


async def wait_until_opened(stage: Stage, worker: subprocess.Popen[bytes]) -> None:
    """Wait until the newest worker has taken the partitions over."""
    already = stage.log.read_text().count("worker.started")
    deadline = time.monotonic() + SETTLED_S
    while stage.log.read_text().count("worker.started") == already:
        assert worker.poll() is None, stage.log.read_text()[-4000:]
        assert time.monotonic() < deadline, stage.log.read_text()[-4000:]
        await asyncio.sleep(0.05)


def values(records: list[Any]) -> list[bytes]:
    return [record.value for record in records]
