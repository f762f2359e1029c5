"""Past decisions follow from the log, bit for bit; what was changed is told, and who did what."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from features.client_redis import connect_redis
from features.event import Amount
from features.spec import Spec
from features.topics import Topics
from models.decision import DecisionRecord
from models.decision_codec import decode_record, encode_record
from models.registry_redis import RedisWeightsRegistry
from models.signing import load_signer
from models.weights_delta import is_delta
from pipeline.learn_kafka import KafkaLearnLog
from tests.builders_versions import versions_of
from tests.live.running import READY_TIMEOUT_S, Deployment, deployment, wait_until

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
EARLIER = datetime.now(UTC) - timedelta(minutes=30)
PAYMENTS = 200
VERSIONS = 8


@pytest.fixture
def stack(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    policy = tmp_path / "policy.yaml"
    text = (ROOT / "policy.yaml").read_text()
    policy.write_text(text.replace("approved_too: false", "approved_too: true"))
    more = {"POLICY_PATH": str(policy), "FIRST_WEIGHTS_WAIT_S": "0"}
    running = deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path, more)
    with running.processes:
        running.start("featurize", "serve")
        wait_until(running.ready, "serve is ready", READY_TIMEOUT_S)
        yield running


class Publisher:
    """Puts one version after the other into the weights topic and the registry, as a learner."""

    def __init__(self, stack: Deployment, folder: Path, redis_url: str, redis_prefix: str) -> None:
        self._spec = Spec.load(ROOT / "features.yaml")
        signer = load_signer(folder / "keys" / "signing.pem")
        _, self._published = versions_of(self._spec, signer, VERSIONS)
        self._stack = stack
        self._redis = redis_url, redis_prefix

    def publish(self, version: int) -> None:
        asyncio.run(self._publish(version, self._published[version]))

        def answers() -> bool:
            found = httpx.get(f"{self._stack.http_url}/v1/model", timeout=60).json()["active"]
            return bool(found and found["version"] == version)

        wait_until(answers, f"version {version} answers", READY_TIMEOUT_S)

    async def _publish(self, version: int, data: bytes) -> None:
        options = {"bootstrap_servers": self._stack.kafka}
        topics, digest = Topics(self._stack.topic_prefix), self._spec.digest
        log = KafkaLearnLog(options, topics, digest, "champion", lambda: 1)
        await log.start()
        client = connect_redis(self._redis[0])
        try:
            await log.send_weights(version, data)
            registry = RedisWeightsRegistry(client, self._redis[1], digest)
            await registry.publish(version, data, is_delta(data))
        finally:
            await client.aclose()
            await log.stop()


def decide(stack: Deployment, number: int) -> dict[str, Any]:
    body = {
        "event_type": "card_payment",
        "event_id": f"pay_{number}",
        "event_time": (EARLIER + timedelta(seconds=number)).isoformat(),
        "entities": {"card": f"tok_{number % 7}", "merchant": f"m_{number % 3}"},
        "amount": {"value": 1000 + 37 * number, "currency": "EUR"},
    }
    answer = httpx.post(f"{stack.http_url}/v1/decisions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def run(stack: Deployment, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "riskbeat", *words],
        env={**os.environ, **stack.env},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_past_decisions_follow_from_the_log_and_a_changed_one_is_told(
    stack: Deployment, tmp_path: Path, redis_url: str, redis_prefix: str
) -> None:
    publisher = Publisher(stack, tmp_path, redis_url, redis_prefix)
    answers = []
    for number in range(PAYMENTS):
        if number % (PAYMENTS // VERSIONS) == 0:
            publisher.publish(1 + number // (PAYMENTS // VERSIONS))
        answers.append(decide(stack, number))
    assert all(answer["reasons"] for answer in answers)
    assert all(reason["text"] for answer in answers for reason in answer["reasons"])
    assert {answer["model"]["version"] for answer in answers} == set(range(1, VERSIONS + 1))
    code, out, err = run(stack, "recompute", "--last", str(PAYMENTS), "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert [one for one in found if one["differences"] or one["unknown"]] == [], err
    assert code == 0, err
    assert len(found) == PAYMENTS
    assert all(one["exact"] for one in found)

    code, out, err = run(stack, "recompute", answers[3]["decision_id"])
    assert (code, "1 bit for bit" in out) == (0, True), out + err

    records = {r.event_id: r for r in (decode_record(r.value) for r in stack.read("decisions.v1"))}
    honest = next(r for r in reversed(records.values()) if r.reasons)
    assert honest.weights is not None
    forged = {
        "logit": change(honest, score=msgspec.structs.replace(honest.score, logit=1.25)),
        "outcome": change(honest, outcome="decline"),
        "event.amount": change(
            honest, event=msgspec.structs.replace(honest.event, amount=Amount(1, "EUR"))
        ),
        "weights": change(honest, weights=msgspec.structs.replace(honest.weights, sha256="0" * 64)),
        "reason 1, contribution": change(
            honest,
            reasons=[
                msgspec.structs.replace(honest.reasons[0], contribution=9.0),
                *honest.reasons[1:],
            ],
        ),
    }
    for what, record in forged.items():
        path = tmp_path / "forged.jsonl"
        path.write_bytes(encode_record(record))
        code, out, err = run(stack, "recompute", "--all-of", str(path))
        assert code == 1, out + err
        assert what in out

    version = answers[-1]["model"]["version"]
    assert run(stack, "model", "pin", str(version), "--why", "a drill", "--by", "ann")[0] == 0
    assert run(stack, "model", "unpin", "--why", "it is over", "--by", "bob")[0] == 0
    code, out, err = run(stack, "audit", "--json")
    acts = [json.loads(line) for line in out.splitlines()]
    begun, *acts = acts  # by the scorer that found no policy
    assert (begun["verb"], begun["target"], begun["state"]) == ("apply", "policy 1", "done"), err
    told = [(a["verb"], a["by"], a["why"], a["state"]) for a in acts]
    assert told == [("pin", "ann", "a drill", "done"), ("unpin", "bob", "it is over", "done")], err
    assert acts[0]["after"]["what"] == f"version {version}"
    assert "5 entries" in run(stack, "audit", "--verify")[1]
    assert "bob" not in run(stack, "audit", "--who", "ann", "--since", "1h")[1]


def change(record: DecisionRecord, **changes: Any) -> DecisionRecord:
    return msgspec.structs.replace(record, **changes)
