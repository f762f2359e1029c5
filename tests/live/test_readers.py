"""Readers of a real store that a real worker fills: over HTTP, beside Redis, and in the log."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from features.spec import Spec
from models.decision_codec import decode_record, decode_vector
from riskbeat.client import Client, EntityFeatures, FeatureQuestion, ServiceUnavailable
from riskbeat.feature_reader import FeatureReader, SchemaMismatch, StoreUnavailable
from tests.live.running import READY_TIMEOUT_S, Deployment, deployment, wait_until
from tests.live.servers import Server

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
SPEC_PATH = ROOT / "features.yaml"
EARLIER = (datetime.now(UTC) - timedelta(hours=2)).replace(microsecond=0)
PAYMENTS = 300  # more than a head holds: the oldest stand in tiles
ASKED_MIN = (0, 1, 12, 19, 30, 45, 90)  # minutes before now
OF_THE_ASKER = ("since_last", "last_of", "changed", "is_new", "distance_from", "speed_from")


def payment(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event_type": "card_payment",
        "event_id": f"pay_{number}",
        "event_time": (EARLIER + timedelta(seconds=20 * number)).isoformat(),
        "entities": {"card": "tok/9", "merchant": f"m_{number % 7}", "device": "d_3", "ip": "::1"},
        "amount": {"value": 1000 + number, "currency": "EUR"},
        **more,
    }


@pytest.fixture
def stack(
    kafka_bootstrap: str, redis_server: Server, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    more = {"READ_TIMEOUT_S": "1", "FIRST_WEIGHTS_WAIT_S": "0"}
    running = deployment(
        kafka_bootstrap, redis_server.address, topic_prefix, redis_prefix, tmp_path, more
    )
    with running.processes:
        running.start("featurize", "serve")
        wait_until(running.ready, "serve is ready", READY_TIMEOUT_S)
        yield running


def facts(answer: EntityFeatures) -> EntityFeatures:
    """What both readers must say alike; the clocks go on between two questions."""
    return msgspec.structs.replace(answer, fresh_until=None, staleness_ms=None, stale=False)


def count_at(at: datetime, window: timedelta) -> int:
    times = [EARLIER + timedelta(seconds=20 * n) for n in range(PAYMENTS)]
    return sum(at - window < time <= at for time in times)


def test_both_readers_tell_what_the_events_add_up_to(
    stack: Deployment, redis_server: Server, redis_prefix: str
) -> None:
    stack.send("events.v1", *(json.dumps(payment(n)).encode() for n in range(PAYMENTS)))
    now = datetime.now(UTC)
    asked = [now - timedelta(minutes=minutes) for minutes in ASKED_MIN]
    with Client(stack.http_url, timeout_s=10) as client:

        def applied() -> bool:
            answer = client.features("card", "tok/9")
            return answer.features["card.count_over_24h"] == PAYMENTS and not answer.stale

        wait_until(applied, "all payments are readable", 60)
        over_http = [client.features("card", "tok/9", at) for at in asked]
        questions = [FeatureQuestion(entity="card", id="tok/9", at=at) for at in asked]
        at_once = client.features_many(questions)
        unknown = client.features("card", "nobody")

    async def beside() -> list[EntityFeatures]:
        connected = FeatureReader.connect(
            redis_server.address, SPEC_PATH, prefix=redis_prefix, timeout_s=10
        )
        async with connected as reader:
            answers = [await reader.read("card", "tok/9", at) for at in asked]
            together = await reader.read_many(questions)
            assert [facts(a) for a in together] == [facts(a) for a in answers]
            return [*answers, await reader.read("card", "nobody", asked[0])]

    *beside_redis, nobody = asyncio.run(beside())
    assert [facts(a) for a in over_http] == [facts(a) for a in at_once]
    assert [facts(a) for a in over_http] == [facts(a) for a in beside_redis]
    assert (unknown.state, nobody.state) == ("unknown", "unknown")
    assert nobody.features["card.count_over_30d"] == 0
    assert "card.since_last" in nobody.missing

    newest = EARLIER + timedelta(seconds=20 * (PAYMENTS - 1))
    for at, answer in zip(asked, over_http, strict=True):
        assert answer.newest_event_at == newest
        for name, window in (("10m", timedelta(minutes=10)), ("1h", timedelta(hours=1))):
            if not answer.late_question:
                assert answer.features[f"card.count_over_{name}"] == count_at(at, window)
    assert [a.late_question for a in over_http] == [
        at < newest - timedelta(seconds=5) for at in asked
    ]


def test_a_reader_sees_what_a_decision_scored(stack: Deployment) -> None:
    spec = Spec.load(SPEC_PATH)
    with Client(stack.http_url, timeout_s=10) as client:
        for number in range(20):
            assert client.decide(payment(number)).degraded == ["model"]

        def applied() -> bool:
            return client.features("card", "tok/9").features["card.count_over_24h"] == 20

        wait_until(applied, "all decided payments are readable", 60)
        body = payment(19)
        at = datetime.fromisoformat(body["event_time"])
        answers = [
            client.features(entity.name, [body["entities"][part] for part in entity.key], at)
            for entity in spec.entities
        ]
    records = [decode_record(record.value) for record in stack.read("decisions.v1")]
    [record] = [record for record in records if record.event_id == "pay_19"]
    x = dict(zip(spec.feature_names, decode_vector(record.vector), strict=True))
    compared = 0
    for answer in answers:
        assert (answer.state, answer.late_question) == ("known", False)
        for name, value in answer.features.items():
            if not any(mark in name for mark in OF_THE_ASKER):  # no event asks here
                np.testing.assert_equal(np.float32(np.nan if value is None else value), x[name])
                compared += 1
    assert compared > 40


def test_a_store_that_is_away_or_of_another_spec_is_named(
    stack: Deployment, redis_server: Server, redis_prefix: str, tmp_path: Path
) -> None:
    assert redis_server.host is not None
    other = tmp_path / "other.yaml"
    other.write_text(SPEC_PATH.read_text().replace("reorder: 5s", "reorder: 6s"))

    async def read(path: Path, prefix: str) -> EntityFeatures:
        reader = FeatureReader.connect(redis_server.address, path, prefix=prefix, timeout_s=1)
        try:
            return await reader.read("card", "tok/9")
        finally:
            await reader.close()

    with Client(stack.http_url, timeout_s=10) as client:
        client.decide(payment(0))
        wait_until(lambda: client.features("card", "tok/9").state == "known", "it is known", 60)
        assert asyncio.run(read(SPEC_PATH, redis_prefix)).state == "known"
        empty = asyncio.run(read(SPEC_PATH, "nobody:"))
        assert (empty.state, empty.fresh_until, empty.stale) == ("unknown", None, True)
        with pytest.raises(SchemaMismatch, match="no features of spec"):
            asyncio.run(read(other, redis_prefix))
        redis_server.host.pause()
        try:
            with pytest.raises(ServiceUnavailable) as away:
                client.features("card", "tok/9")
            assert away.value.retry_after_s == 1
            with pytest.raises(StoreUnavailable):
                asyncio.run(read(SPEC_PATH, redis_prefix))
        finally:
            redis_server.host.resume()

        def back() -> bool:
            try:
                return client.features("card", "tok/9").state == "known"
            except ServiceUnavailable:
                return False

        wait_until(back, "it answers again", 30)


def test_a_state_that_no_worker_keeps_fresh_is_called_stale(stack: Deployment) -> None:
    with Client(stack.http_url, timeout_s=10) as client:
        client.decide(payment(0))

        def known() -> bool:
            answer = client.features("card", "tok/9")
            return answer.state == "known" and not answer.stale

        wait_until(known, "it is known and fresh", 60)
        fresh = client.features("card", "tok/9", EARLIER)
        worker = stack.processes.running.pop("featurize").popen
        worker.kill()
        worker.wait()
        wait_until(lambda: client.features("card", "tok/9").stale, "it is stale", 60)
        stale = client.features("card", "tok/9", EARLIER)
    assert stale.features == fresh.features
    assert stale.fresh_until is not None
    assert fresh.staleness_ms is not None
    assert stale.staleness_ms is not None
    assert stale.staleness_ms > 5_000 > fresh.staleness_ms
