"""The serve process on a real log and a real store: both doors, swaps, degraded answers."""

import asyncio
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from features.event import entity_key
from models.decision_codec import decode_vector
from tests.builders_weights import some_weights
from tests.live.servers import Server
from tests.live.stage import DEADLINE_S, body_of, column, ends_well, on_stage, until
from tests.oracle_forward import logit_of

pytestmark = pytest.mark.live


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
        expected = logit_of(weights, x)
        assert records["pay_2"].score.logit == pytest.approx(float(expected[0]), abs=1e-5)
        events = await stage.read(stage.topics.events, 2)
        assert [headers for headers, _ in events] == [{"riskbeat-decided": b"http"}] * 2
        await asyncio.to_thread(ends_well, stage)


async def test_twins_that_come_at_once_are_one_decision(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    """Also those that are asked again because they were refused or late."""
    async with on_stage(tmp_path, kafka_bootstrap, redis_url, topic_prefix, redis_prefix) as stage:

        async def ask(event_id: str) -> dict[str, Any]:
            async with asyncio.timeout(DEADLINE_S):
                while (answer := await stage.decide(event_id)).status_code != 200:
                    assert answer.status_code in {409, 429, 503}, answer.text
                    await asyncio.sleep(0.05)
            found: dict[str, Any] = answer.json()
            return found

        answers = await asyncio.gather(*(ask(f"twin_{i % 10}") for i in range(80)))
        by_event: dict[str, list[dict[str, Any]]] = {}
        for answer in answers:
            by_event.setdefault(answer["event_id"], []).append(answer)
        assert sorted(map(len, by_event.values())) == [8] * 10
        for same in by_event.values():
            assert [one["status"] for one in same].count("new") <= 1
            assert all(one | {"status": ""} == same[0] | {"status": ""} for one in same)
        await asyncio.to_thread(ends_well, stage)
        assert await stage.length(stage.topics.decisions) == 10
        assert await stage.length(stage.topics.events) == 10


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
        await asyncio.to_thread(ends_well, stage)


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
            expected = float(logit_of(weights, x)[0])
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


async def test_a_killed_scorer_leaves_no_event_undecided(
    tmp_path: Path, kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    names = [f"k_{i}" for i in range(3_000)]
    prefixes = (topic_prefix, redis_prefix)
    for life in range(3):  # killed twice, in the middle of its work
        async with on_stage(tmp_path, kafka_bootstrap, redis_url, *prefixes) as stage:
            producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap)
            await producer.start()
            for name in names[life * 1_000 : (life + 1) * 1_000]:
                body = json.dumps(body_of(name)).encode()
                await producer.send(stage.topics.events, body, key=name.encode())
            await producer.stop()
            if life < 2:
                await stage.read(stage.topics.decisions, life * 1_000 + 1)
                stage.process.kill()
                stage.process.wait()
                continue
            async with asyncio.timeout(DEADLINE_S):
                found: Counter[str] = Counter()
                while len(found) < len(names):
                    records = await stage.records(max(len(names), sum(found.values()) + 1))
                    found = Counter(record.event_id for record in records)
            assert set(found) == set(names)
            ids = {record.event_id: record.decision_id for record in records}
            assert len(set(ids.values())) == len(names)  # a repeat bears the same id
            assert {r.decision_id for r in records} == set(ids.values())


async def test_answers_go_on_while_the_log_is_away_and_reach_it_later(
    tmp_path: Path, kafka_broker: Server, redis_url: str, topic_prefix: str, redis_prefix: str
) -> None:
    if kafka_broker.host is None:
        pytest.skip("the broker is not ours to pause")
    prefixes = (topic_prefix, redis_prefix)
    more = {"RISKBEAT_ACK_TIMEOUT_S": "0.3"}
    async with on_stage(tmp_path, kafka_broker.address, redis_url, *prefixes, **more) as stage:
        assert (await stage.decide("before")).status_code == 200
        kafka_broker.host.pause()
        try:
            for i in range(5):
                assert (await stage.decide(f"away_{i}")).status_code == 200
            parts = (await stage.http.get("/readyz")).json()["parts"]
            assert parts["log"].startswith("away; ")
        finally:
            kafka_broker.host.resume()
        names = {"before"} | {f"away_{i}" for i in range(5)}

        async def all_there() -> bool:
            return names <= {record.event_id for record in await stage.records(6)}

        await until("every spooled decision is in the log", all_there)
        await asyncio.to_thread(ends_well, stage)
