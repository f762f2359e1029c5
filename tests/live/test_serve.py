"""The serve process on a real log and a real store: both doors, swaps, degraded answers."""

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
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from features.client_redis import connect_redis
from features.event import entity_key
from features.spec import Spec
from features.topics import Topics
from models.decision import DecisionRecord, decode_record, decode_vector
from models.registry_redis import RedisWeightsRegistry
from models.signing import Signer, ensure_keys
from models.weights import encode
from pipeline.topics_kafka import TopicPlan, ensure_topics
from riskbeat.embedded import free_ports
from tests.fakes_serving import POLICY_TEXT, SPEC_TEXT, logit_of, some_weights
from tests.live.servers import Server

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
DEADLINE_S = 60.0
COMMAND = (
    "import sys; from riskbeat.serve import run_serve;"
    "from riskbeat.settings_load import load_settings; sys.exit(run_serve(load_settings()))"
)


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


def body_of(event_id: str, **changes: Any) -> dict[str, Any]:
    return {
        "event_type": "card_payment",
        "event_id": event_id,
        "event_time": "2026-03-01T12:00:00.120Z",
        "entities": {"card": "c1", "merchant": "m1"},
        "amount": {"value": 12550, "currency": "EUR"},
    } | changes


async def until(what: str, ask: Callable[[], Any]) -> Any:
    try:
        async with asyncio.timeout(DEADLINE_S):
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
        "RISKBEAT_DEVICE": "cpu",
        "RISKBEAT_FEATURES_TIMEOUT_S": "0.5",  # tests share a machine; none asserts a time
        "RISKBEAT_ACK_TIMEOUT_S": "2",
        "RISKBEAT_DEADLINE_S": "5",
        **more,
    }
    topics = Topics(topic_prefix)
    names = (topics.events, topics.decisions, topics.labels)
    await ensure_topics(
        {"bootstrap_servers": kafka}, [TopicPlan(name, 4, 3_600_000) for name in names]
    )
    log = folder / "serve.log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220 - starts at once, and its log is a file
            [sys.executable, "-c", COMMAND], env=environment, cwd=ROOT, stdout=out, stderr=out
        )
    client = connect_redis(redis_url)
    base = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=base, timeout=10.0) as http:
            stage = Stage(
                process,
                http,
                topics,
                kafka,
                RedisWeightsRegistry(client, redis_prefix),
                signer,
                Spec.load(folder / "features.yaml"),
                log,
            )
            await until(f"ready, see {log}", lambda: _is_ready(stage))
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


async def test_an_event_is_decided_recorded_and_answered_once(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with on_stage(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as stage:
        first = (await stage.decide("pay_1")).json()
        assert first["degraded"] == ["model"]
        assert (first["status"], first["outcome"]) == ("new", "review")  # 125.50 over the bound
        await stage.publish(1)

        async def version() -> Any:
            return (await stage.http.get("/v1/model")).json()["active"]

        active = await until("version 1 is active", version)
        assert active["version"] == 1
        second = (await stage.decide("pay_2")).json()
        assert second["model"]["version"] == 1
        assert second["degraded"] == []
        again = (await stage.decide("pay_2")).json()
        assert again == second | {"status": "duplicate"}
        other = await stage.decide("pay_2", amount={"value": 1, "currency": "EUR"})
        assert (other.status_code, other.json()["status"]) == (422, 422)

        records = {r.event_id: r for r in await stage.records(2)}
        assert records["pay_2"].decision_id == second["decision_id"]
        x = decode_vector(records["pay_2"].vector)[None, :]
        weights = some_weights(stage.spec.digest, stage.spec.n_features, version=1)
        expected = logit_of(dict(weights.arrays), x, weights.beta)
        assert records["pay_2"].score.logit == pytest.approx(float(expected[0]), abs=1e-5)
        events = await stage.read(stage.topics.events, 2)
        assert [headers for headers, _ in events] == [{"riskbeat-decided": b"http"}] * 2
        await asyncio.to_thread(_ends_well, stage)


async def test_the_stream_is_decided_except_for_what_http_decided(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with on_stage(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as stage:
        await stage.publish(1)
        await stage.decide("over_http")
        producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
        await producer.start()
        await producer.send_and_wait(stage.topics.events, b"{not json")
        for i in range(50):
            body = json.dumps(body_of(f"s_{i}", entities={"card": f"c{i % 3}", "merchant": "m"}))
            await producer.send_and_wait(
                stage.topics.events, body.encode(), key=entity_key("default", "card", f"c{i % 3}")
            )
        await producer.stop()
        accepted = await stage.http.post("/v1/events", json=body_of("by_events"))
        assert accepted.status_code == 202
        records = await stage.records(52)
        assert sorted(r.event_id for r in records if r.source.door == "stream") == sorted(
            [f"s_{i}" for i in range(50)] + ["by_events"]
        )
        assert [r.event_id for r in records if r.source.door == "http"] == ["over_http"]
        counted = column(stage.spec, records, "card.count_over_1h")
        # nothing fills the store here: the burst sees itself through the overlay alone
        assert max(counted) >= 17

        async def counted_both() -> bool:
            page = (await stage.http.get("/metrics")).text
            return (
                'riskbeat_stream_rejected_events_total{code="malformed"} 1.0' in page
                and "riskbeat_stream_skipped_events_total 1.0" in page
            )

        await until("one rejected, one skipped", counted_both)
        await asyncio.to_thread(_ends_well, stage)


async def test_no_answer_mixes_versions_while_they_are_swapped_under_load(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    async with on_stage(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as stage:
        done = asyncio.Event()

        async def ask(worker: int) -> list[dict[str, Any]]:
            answers = []
            while not done.is_set():
                answer = await stage.decide(f"w{worker}_{len(answers)}")
                assert answer.status_code == 200
                answers.append(answer.json())
            return answers

        askers = [asyncio.create_task(ask(worker)) for worker in range(6)]
        for version in range(1, 31):
            await stage.publish(version)

            async def active(wanted: int = version) -> bool:
                return wanted in (await stage.registry.active_versions()).values()

            await until(f"version {version} is active", active)
        done.set()
        answers = [answer for task in askers for answer in await task]
        records = await stage.records(len(answers))
        seen: set[int] = set()
        for record in records:
            if record.weights is None:
                continue
            seen.add(record.weights.version)
            weights = some_weights(
                stage.spec.digest, stage.spec.n_features, version=record.weights.version
            )
            x = decode_vector(record.vector)[None, :]
            expected = float(logit_of(dict(weights.arrays), x, weights.beta)[0])
            assert record.score.logit == pytest.approx(expected, abs=1e-5 * max(1, abs(expected)))
        assert len(seen) >= 10


async def test_answers_are_degraded_while_the_store_is_gone(
    tmp_path: Path, kafka_bootstrap: str, redis_server: Server, topic_prefix: str
) -> None:
    assert redis_server.host is not None
    async with on_stage(
        tmp_path, kafka_bootstrap, redis_server.address, topic_prefix, "t:"
    ) as stage:
        await stage.publish(1)

        async def whole() -> bool:
            answer = (await stage.decide(f"whole_{os.urandom(4).hex()}")).json()
            return bool(answer["degraded"] == [])

        await until("nothing is degraded", whole)
        redis_server.host.pause()
        answer = await stage.decide("in_the_dark")
        assert answer.status_code == 200
        dark = answer.json()
        assert dark["degraded"] == ["features", "idempotency"]
        assert dark["outcome"] == "review"
        assert dark["score"]["risk_level"] == "not_assessed"
        assert dark["features"]["as_of"] is None
        assert "card.count_over_1h" in dark["features"]["missing"]
        assert dark["model"]["version"] == 1
        redis_server.host.resume()
        await until("it recovers", whole)


def column(spec: Spec, records: list[DecisionRecord], feature: str) -> list[float]:
    place = spec.feature_names.index(feature)
    return [float(decode_vector(record.vector)[place]) for record in records]


def _ends_well(stage: Stage) -> None:
    stage.process.send_signal(signal.SIGTERM)
    assert stage.process.wait(DEADLINE_S) == 0, stage.log.read_text()
