"""The whole path on a real log and a real store: events in, decisions out, a label in, a version
that learned it answering."""

import base64
import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from features.spec import Spec
from models.decision import DecisionRecord
from models.decision_codec import decode_record, decode_vector
from pipeline.dead import DEAD_BODY_MAX_BYTES
from tests.live.running import READY_TIMEOUT_S, Deployment, deployment, wait_until

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
EARLIER = datetime.now(UTC) - timedelta(minutes=30)


@pytest.fixture
def stack(
    kafka_bootstrap: str, redis_url: str, topic_prefix: str, redis_prefix: str, tmp_path: Path
) -> Iterator[Deployment]:
    running = deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path)
    with running.processes:
        running.start("featurize", "learn", "serve")
        wait_until(running.ready, "serve is ready", READY_TIMEOUT_S)
        yield running


def payment(number: int, **more: Any) -> dict[str, Any]:
    return {
        "event_type": "card_payment",
        "event_id": f"pay_{number}",
        "event_time": (EARLIER + timedelta(seconds=number)).isoformat(),
        "entities": {"card": "tok_9", "merchant": "m_7", "device": "d_3", "ip": "203.0.113.9"},
        "amount": {"value": 1000 * (number + 1), "currency": "EUR"},
        **more,
    }


def decide(stack: Deployment, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{stack.http_url}/v1/decisions", json=body, timeout=10)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_label_reaches_the_weights_that_answer(stack: Deployment) -> None:
    spec = Spec.load(ROOT / "features.yaml")
    count = spec.feature_names.index("card.count_over_1h")
    total = spec.feature_names.index("card.sum_of_amount_over_1h")
    for number in range(5):
        answer = decide(stack, payment(number))
        assert answer["status"] == "new"
        assert answer["degraded"] == []
        assert answer["model"]["version"] >= 1

    def recorded() -> list[DecisionRecord]:
        return [decode_record(record.value) for record in stack.read("decisions.v1")]

    records = {record.event_id: record for record in recorded()}
    assert len(records) == 5
    for number in range(5):
        x = decode_vector(records[f"pay_{number}"].vector)
        assert x[count] == number + 1
        assert x[total] == np.float32(sum(1000 * (n + 1) for n in range(number + 1)))

    before = answer["model"]["version"]
    label = {
        "event_type": "card_payment",
        "event_id": "pay_0",
        "label": "fraud",
        "source": "chargeback",
        "label_time": (EARLIER + timedelta(minutes=10)).isoformat(),
    }
    assert httpx.post(f"{stack.http_url}/v1/labels", json=label, timeout=10).status_code == 202

    later = (EARLIER + timedelta(minutes=20)).isoformat()
    known = spec.feature_names.index("merchant.fraud_count_over_7d")
    attempts = iter(range(10, 100_000))

    def learned() -> bool:
        number = next(attempts)
        answer = decide(stack, payment(number, event_time=later))
        newest = {record.event_id: record for record in recorded()}[f"pay_{number}"]
        x = decode_vector(newest.vector)
        return bool(answer["model"]["version"] > before and x[known] == 1)

    wait_until(learned, "a version that learned the label, and the label as a feature", 60)


def test_a_repeat_gets_the_first_answer_and_moves_nothing(stack: Deployment) -> None:
    first = decide(stack, payment(1))
    again = decide(stack, payment(1))
    assert again["status"] == "duplicate"
    assert {**again, "status": "new"} == first
    assert len(stack.read("decisions.v1")) == 1


def test_bad_events_are_dead_letters_with_a_reason_and_the_stream_goes_on(
    stack: Deployment,
) -> None:
    good = json.dumps(payment(4)).encode()
    bad = {
        "malformed": good[:-1],
        "missing_field": json.dumps({**payment(5), "event_id": None}).replace(
            '"event_id": null, ', ""
        ),
        "wrong_type": json.dumps(payment(6, amount={"value": "ten", "currency": "EUR"})),
        "too_large": json.dumps(payment(7, attributes={"note": "x" * 2_000_000}))[:900_000],
        "time_in_future": json.dumps(payment(8, event_time="2099-01-01T00:00:00Z")),
        "unknown_event_type": json.dumps(payment(9, event_type="wire_transfer")),
        "not_finite": json.dumps(payment(10, amount={"value": math.nan, "currency": "EUR"})),
    }
    values = [v if isinstance(v, bytes) else v.encode() for v in bad.values()]
    stack.send("events.v1", *values, good)
    wait_until(lambda: len(stack.read("decisions.v1")) == 1, "the good event's decision", 30)
    wait_until(lambda: len(stack.read("dead.v1")) == len(bad), "the bad events' letters", 30)
    letters = [json.loads(record.value) for record in stack.read("dead.v1")]
    assert [letter["code"] for letter in letters] == list(bad)
    for letter, value in zip(letters, values, strict=True):
        assert base64.b64decode(letter["body"]) == value[:DEAD_BODY_MAX_BYTES]
        assert letter["body_bytes"] == len(value)
    pointers = {letter["code"]: letter["pointer"] for letter in letters}
    assert pointers["wrong_type"] == pointers["not_finite"] == "/amount/value"
    assert pointers["missing_field"] == "/event_id"
