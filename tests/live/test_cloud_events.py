"""CloudEvents of each mode go the whole path beside plain events; decisions come out as such."""

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from features.spec import Spec
from models.decision_codec import decode_record, decode_vector
from tests.live.running import READY_TIMEOUT_S, Deployment, deployment, wait_until

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
SOURCE = "/eu/payments"
EARLIER = datetime.now(UTC) - timedelta(minutes=30)
DATA = {
    "entities": {"card": "tok_9", "merchant": "m_7", "device": "d_3", "ip": "203.0.113.9"},
    "amount": {"value": 12_550, "currency": "EUR"},
}
SETTLED_S = 60


@pytest.fixture
def stack(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    more = {"DECISIONS_SOURCE": SOURCE}
    running = deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path, more)
    with running.processes:
        running.start("featurize", "learn", "serve")
        wait_until(running.ready, "serve is ready", READY_TIMEOUT_S)
        yield running


def attributes(number: int) -> dict[str, str]:
    return {
        "specversion": "1.0",
        "id": f"pay_{number}",
        "source": "/shop",
        "type": "com.example.card_payment.v1",
        "time": (EARLIER + timedelta(seconds=number)).isoformat(),
    }


def structured(number: int) -> dict[str, Any]:
    return {**attributes(number), "datacontenttype": "application/json", "data": DATA}


async def append(stack: Deployment, *records: tuple[dict[str, str], bytes]) -> None:
    """Append records with CloudEvents' headers, in order."""
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all") as producer:
        for headers, value in records:
            await producer.send_and_wait(
                f"{stack.topic_prefix}events.v1",
                value,
                partition=0,
                headers=[(f"ce_{name}", text.encode()) for name, text in headers.items()],
            )


def test_each_mode_is_decided_and_counted_once(stack: Deployment) -> None:
    body = json.dumps(DATA).encode()
    url = f"{stack.http_url}/v1/decisions"
    kinds = {"content-type": "application/cloudevents+json"}
    headers = {f"ce-{name}": text for name, text in attributes(1).items()}
    in_base64 = {**attributes(2), "data_base64": base64.b64encode(body).decode()}
    answers = [
        httpx.post(url, content=json.dumps(structured(0)), headers=kinds, timeout=10),
        httpx.post(url, content=body, headers=headers, timeout=10),
        httpx.post(url, content=json.dumps(in_base64), headers=kinds, timeout=10),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3, [a.text for a in answers]
    records = [(dict[str, str](), json.dumps(structured(3)).encode()), (attributes(4), body)]
    repeat = (attributes(1), body)  # of one decided over HTTP: decided again, under the same id
    wrong = ({**attributes(5), "type": "com.example.wire"}, json.dumps(DATA).encode())
    asyncio.run(append(stack, *records, repeat, wrong))

    wait_until(lambda: len(stack.read("decisions.v1")) == 6, "the decisions", SETTLED_S)
    wait_until(lambda: len(stack.read("dead.v1")) == 1, "the letter", SETTLED_S)
    (letter,) = stack.read("dead.v1")
    assert json.loads(letter.value)["code"] == "unknown_event_type"

    count = Spec.load(ROOT / "features.yaml").feature_names.index("card.count_over_1h")
    counted = set()
    for record in stack.read("decisions.v1"):
        decision = decode_record(record.value)
        counted.add((decision.event_id, decode_vector(decision.vector)[count]))
        told = {name: value.decode() for name, value in record.headers}
        assert told["ce_id"] == decision.decision_id
        assert told["ce_source"] == SOURCE
        assert told["ce_type"] == "riskbeat.decision.v1"
        assert told["ce_subject"] == decision.event_id
    assert counted == {(f"pay_{number}", number + 1) for number in range(5)}
