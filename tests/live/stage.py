"""A serve process of a test's own, and the ways to what is around it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer

from features.client_redis import connect_redis
from features.spec import Spec
from features.topics import Topics
from models.decision import DecisionRecord
from models.decision_codec import decode_record, decode_vector
from models.registry_redis import RedisWeightsRegistry
from models.signing import Signer, ensure_keys
from models.weights import encode
from pipeline.topics_kafka import TopicPlan, ensure_topics
from riskbeat.ports import free_ports
from tests.builders_weights import some_weights
from tests.fakes_serving import POLICY_TEXT, SPEC_TEXT

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
START_DEADLINE_S = 240.0  # the first process of all may have to compile the kernels


@dataclass
class Stage:
    """A running serve process and the ways to what is around it."""

    process: subprocess.Popen[bytes]
    http: httpx.AsyncClient
    topics: Topics
    kafka: str
    registry: RedisWeightsRegistry
    signer: Signer
    spec: Spec
    log: Path
    env: dict[str, str]

    async def publish(self, version: int) -> None:
        weights = some_weights(self.spec.digest, self.spec.n_features, version=version)
        await self.registry.publish(version, encode(weights, self.signer))

    async def decide(self, event_id: str, **changes: Any) -> httpx.Response:
        return await self.http.post("/v1/decisions", json=body_of(event_id, **changes))

    async def records(self, count: int) -> list[DecisionRecord]:
        """Return the first `count` decisions in the log."""
        return [decode_record(value) for _, value in await self.read(self.topics.decisions, count)]

    async def read(self, topic: str, count: int) -> list[tuple[dict[str, bytes], bytes]]:
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.kafka, auto_offset_reset="earliest"
        )
        await consumer.start()
        found: list[tuple[dict[str, bytes], bytes]] = []
        try:
            async with asyncio.timeout(DEADLINE_S):
                while len(found) < count:
                    fetched = await consumer.getmany(timeout_ms=200)
                    for records in fetched.values():
                        found += [(dict(r.headers), r.value) for r in records]
        finally:
            await consumer.stop()
        return found

    async def length(self, topic: str) -> int:
        """Return how many records the topic has ever had."""
        consumer = AIOKafkaConsumer(topic, bootstrap_servers=self.kafka)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(consumer.assignment())
        finally:
            await consumer.stop()
        return sum(ends.values())


def body_of(event_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "event_type": "card_payment",
        "event_id": event_id,
        "event_time": "2026-03-01T12:00:00.120Z",
        "entities": {"card": "c1", "merchant": "m1"},
        "amount": {"value": 12550, "currency": "EUR"},
    } | changes


async def until(what: str, ask: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    try:
        async with asyncio.timeout(deadline_s):
            while True:
                answer = await ask()
                if answer:
                    return answer
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"waited in vain: {what}") from None


@asynccontextmanager
async def on_stage(
    folder: Path, kafka: str, redis_url: str, topic_prefix: str, redis_prefix: str, **more: str
) -> AsyncIterator[Stage]:
    (folder / "features.yaml").write_text(SPEC_TEXT)
    (folder / "policy.yaml").write_text(POLICY_TEXT)
    signer = ensure_keys(folder / "keys/signing.pem", folder / "keys/public.pem")
    (port,) = free_ports(1)
    environment = os.environ | {
        "RISKBEAT_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "RISKBEAT_REDIS_URL": redis_url,
        "RISKBEAT_TOPIC_PREFIX": topic_prefix,
        "RISKBEAT_REDIS_PREFIX": redis_prefix,
        "RISKBEAT_HTTP_PORT": str(port),
        "RISKBEAT_SPEC_PATH": str(folder / "features.yaml"),
        "RISKBEAT_POLICY_PATH": str(folder / "policy.yaml"),
        "RISKBEAT_DATA_DIR": str(folder / "data"),
        "RISKBEAT_PUBLIC_KEY_PATHS": json.dumps([str(folder / "keys/public.pem")]),
        "RISKBEAT_AUTH": "off",
        "RISKBEAT_DEVICE": "cpu",
        "RISKBEAT_FIRST_WEIGHTS_WAIT_S": "0",  # tests publish what they need
        "RISKBEAT_FEATURES_TIMEOUT_S": "0.5",  # tests share a machine; none asserts a time
        "RISKBEAT_MODEL_TIMEOUT_S": "5",
        "RISKBEAT_ACK_TIMEOUT_S": "2",
        "RISKBEAT_DEADLINE_S": "5",
        "RISKBEAT_HTTP_DRAIN_GRACE_S": "0.2",  # tests leave connections open
        "RISKBEAT_QUEUE_TARGET_S": "5",  # nobody is refused for a slow machine
        **more,
    }
    topics = Topics(topic_prefix)
    names = (topics.events, topics.decisions, topics.labels)
    plans = [TopicPlan(name, 4, 3_600_000) for name in names]
    await ensure_topics(
        {"bootstrap_servers": kafka}, [*plans, TopicPlan(topics.audit, 1, 3_600_000)]
    )
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220 - starts at once, and its log is a file
            [sys.executable, "-m", "riskbeat", "serve"],
            env=environment,
            cwd=ROOT,
            stdout=out,
            stderr=out,
        )
    client = connect_redis(redis_url)
    spec = Spec.load(folder / "features.yaml")
    base = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=base, timeout=10.0) as http:
            stage = Stage(
                process,
                http,
                topics,
                kafka,
                RedisWeightsRegistry(client, redis_prefix, spec.digest),
                signer,
                spec,
                log,
                environment,
            )
            await until(f"ready, see {log}", lambda: _is_ready(stage), START_DEADLINE_S)
            yield stage
    finally:
        await client.aclose()
        process.kill()
        process.wait()


async def _is_ready(stage: Stage) -> bool:
    assert stage.process.poll() is None, stage.log.read_text()
    try:
        answer = await stage.http.get("/readyz")
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["parts"]["log"] == "ok"


def column(spec: Spec, records: list[DecisionRecord], feature: str) -> list[float]:
    place = spec.feature_names.index(feature)
    return [float(decode_vector(record.vector)[place]) for record in records]


def ends_well(stage: Stage) -> None:
    stage.process.send_signal(signal.SIGTERM)
    assert stage.process.wait(DEADLINE_S) == 0, stage.log.read_text()
