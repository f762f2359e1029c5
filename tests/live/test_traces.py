"""One trace from the caller's `traceparent` to the version that learned of it, on a real log."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from tests.live.running import READY_TIMEOUT_S, Deployment, deployment, wait_until

pytestmark = pytest.mark.live

EARLIER = datetime.now(UTC) - timedelta(minutes=30)
CHANCE = "0.000000001"  # traces nothing by chance: what is traced, was asked for
SENT, ASKED, LABELLED, QUIET = (digit * 32 for digit in "abcd")
PATH = {
    "featurize.route",
    "featurize.commit",
    "decision",
    "learn.step",
    "weights.publish",
    "weights.activate",
}


@pytest.fixture
def spans_path(tmp_path: Path) -> Path:
    return tmp_path / "spans.jsonl"


@pytest.fixture
def stack(
    kafka_bootstrap: str,
    redis_url: str,
    topic_prefix: str,
    redis_prefix: str,
    tmp_path: Path,
    spans_path: Path,
) -> Iterator[Deployment]:
    more = {"TRACE_SAMPLE": CHANCE, "TRACE_EXPORTER": str(spans_path)}
    running = deployment(kafka_bootstrap, redis_url, topic_prefix, redis_prefix, tmp_path, more)
    with running.processes:
        running.start("featurize", "learn", "serve")
        wait_until(running.ready, "serve is ready", READY_TIMEOUT_S)
        yield running


def traceparent(trace_id: str, flags: str = "01") -> str:
    return f"00-{trace_id}-00f067aa0ba902b7-{flags}"


def payment(event_id: str) -> dict[str, Any]:
    return {
        "event_type": "card_payment",
        "event_id": event_id,
        "event_time": EARLIER.isoformat(),
        "entities": {"card": "tok_9", "merchant": "m_7", "device": "d_3", "ip": "203.0.113.9"},
        "amount": {"value": 12_550, "currency": "EUR"},
    }


def label(event_id: str) -> dict[str, str]:
    return {
        "event_type": "card_payment",
        "event_id": event_id,
        "label": "fraud",
        "source": "chargeback",
        "label_time": (EARLIER + timedelta(minutes=10)).isoformat(),
    }


def ask(stack: Deployment, path: str, body: Mapping[str, Any], trace: str = "") -> dict[str, Any]:
    headers = {"traceparent": trace} if trace else {}
    answer = httpx.post(f"{stack.http_url}{path}", json=body, headers=headers, timeout=10)
    assert answer.status_code in (200, 202), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def produce(stack: Deployment, event: Mapping[str, Any], trace: str) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(
            f"{stack.topic_prefix}events.v1",
            json.dumps(event).encode(),
            headers=[("traceparent", trace.encode())],
        )
    finally:
        await producer.stop()


def spans_of(path: Path) -> list[dict[str, Any]]:
    """Return the spans that were exported so far, oldest first."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def names_led_to(trace_id: str, spans: list[dict[str, Any]]) -> set[str]:
    """Return the names of the spans that lead back to a trace, by parents and by links."""
    reached: set[tuple[str, str]] = set()
    names: set[str] = set()
    grew = True
    while grew:
        grew = False
        for span in spans:
            mine = span["context"]["trace_id"], span["context"]["span_id"]
            up = [(mine[0], span["parent_id"])] if span["parent_id"] else []
            up += [(one["context"]["trace_id"], one["context"]["span_id"]) for one in span["links"]]
            known = any(one in reached or one[0] == f"0x{trace_id}" for one in [mine, *up])
            if known and mine not in reached:
                reached.add(mine)
                names.add(span["name"])
                grew = True
    return names


def decided(spans: list[dict[str, Any]], trace_id: str) -> list[dict[str, Any]]:
    return [
        span["attributes"]
        for span in spans
        if span["name"] == "decision" and span["context"]["trace_id"] == f"0x{trace_id}"
    ]


def test_a_trace_goes_all_the_way_from_either_door(stack: Deployment, spans_path: Path) -> None:
    asyncio.run(produce(stack, payment("sent"), traceparent(SENT)))
    answer = ask(stack, "/v1/decisions", payment("asked"), traceparent(ASKED))
    ask(stack, "/v1/decisions", payment("quiet"), traceparent(QUIET, "00"))
    wait_until(lambda: len(stack.read("decisions.v1")) == 3, "three decisions", 60)
    ask(stack, "/v1/labels", label("sent"))  # is learned in the trace of its event
    ask(stack, "/v1/labels", label("asked"), traceparent(LABELLED))

    def whole() -> bool:
        stack.processes.look()
        spans = spans_of(spans_path)
        return all(names_led_to(trace_id, spans) >= PATH for trace_id in (SENT, ASKED))

    wait_until(whole, "both traces reach the scorer again", 120)
    spans = spans_of(spans_path)
    assert {"learn.step", "weights.publish", "weights.activate"} <= names_led_to(LABELLED, spans)
    assert names_led_to(QUIET, spans) == set()
    [sent], [asked] = decided(spans, SENT), decided(spans, ASKED)
    assert (sent["door"], sent["event_id"]) == ("stream", "sent")
    assert (asked["door"], asked["event_id"]) == ("http", "asked")
    assert asked["decision_id"] == answer["decision_id"]
    carried = {
        dict(record.headers)["traceparent"].decode()[3:35] for record in stack.read("decisions.v1")
    }
    assert carried == {SENT, ASKED, QUIET}
    told = spans_path.read_text()
    for secret in ("tok_9", "m_7", "d_3", "203.0.113.9", "12550"):
        assert secret not in told

    page = f"{stack.http_url}/metrics"
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    open_metrics = httpx.get(page, headers=accept, timeout=10).text
    for trace_id in (SENT, ASKED):
        assert f'# {{trace_id="{trace_id}"}}' in open_metrics
    assert "trace_id" not in httpx.get(page, timeout=10).text
