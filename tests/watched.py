"""A stack that has seen events, decisions, labels and bad input, for those who watch it."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from aiokafka import AIOKafkaProducer
from prometheus_client.parser import text_string_to_metric_families

from riskbeat.stack import LocalStack

READY_S = 240
SETTLED_S = 120
PATIENT = {
    "RISKBEAT_FEATURES_TIMEOUT_S": "5",
    "RISKBEAT_DEADLINE_S": "20",
    "RISKBEAT_ACK_TIMEOUT_S": "10",
    "RISKBEAT_STREAM_FEATURES_TIMEOUT_S": "5",
    "RISKBEAT_LEGIT_AFTER_S": "0",  # what is known is judged at once
}
EVENTS = 60


def payment(number: int, began_at: datetime) -> dict[str, Any]:
    return {
        "event_type": "card_payment",
        "event_id": f"watch_{number}",
        "event_time": (began_at + timedelta(seconds=number)).isoformat(),
        "entities": {
            "card": f"tok_{number % 7}",
            "merchant": f"m_{number % 5}",
            "device": f"d_{number % 3}",
            "ip": f"203.0.113.{number % 9}",
        },
        "amount": {"value": 1000 * (number + 1), "currency": "EUR"},
    }


def label(number: int, began_at: datetime) -> dict[str, Any]:
    return {
        "event_type": "card_payment",
        "event_id": f"watch_{number}",
        "label": "fraud" if number % 4 == 0 else "legit",
        "source": "manual_review",
        "label_time": (began_at + timedelta(minutes=10)).isoformat(),
    }


async def feed(stack: LocalStack, began: int = 0) -> None:
    """Decide events over HTTP and on the stream, label them, look them up, and send what is bad."""
    began_at = datetime.now(UTC) - timedelta(minutes=30)
    numbers = range(began, began + EVENTS)
    async with httpx.AsyncClient(base_url=stack.http_url, timeout=30) as client:
        for number in numbers[: EVENTS // 2]:
            body = payment(number, began_at)
            answer = await client.post("/v1/decisions", json=body)
            assert answer.status_code == 200, answer.text
        assert (await client.post("/v1/decisions", json=body)).json()["status"] == "duplicate"
        assert (await client.get("/v1/features/card/tok_1")).status_code == 200
        await send(stack, "events", [payment(n, began_at) for n in numbers[EVENTS // 2 :]], b"{}")
        await until(stack, "serve", "riskbeat_decisions_total", began + EVENTS)
        for number in numbers:
            answer = await client.post("/v1/labels", json=label(number, began_at))
            assert answer.status_code == 202, answer.text
        await send(stack, "labels", [], b"{}")
    await until(stack, "learn", "riskbeat_labels_total", began + EVENTS)
    await until(stack, "serve", "riskbeat_label_serving_seconds_count", 1)


async def send(stack: LocalStack, topic: str, bodies: list[dict[str, Any]], bad: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all") as producer:
        for value in [*(json.dumps(body).encode() for body in bodies), bad]:
            await producer.send_and_wait(f"riskbeat.{topic}.v1", value)


async def page_of(stack: LocalStack, process: str) -> str:
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await client.get(stack.metrics_urls[process])
    assert answer.status_code == 200
    return answer.text


async def until(stack: LocalStack, process: str, series: str, at_least: float) -> None:
    """Wait until a process has counted so much, over all labels."""
    deadline = time.monotonic() + SETTLED_S
    counted = 0.0
    while time.monotonic() < deadline:
        page = await page_of(stack, process)
        counted = sum(
            sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if sample.name == series
        )
        if counted >= at_least:
            return
        await asyncio.sleep(0.2)
    raise AssertionError(f"{series} of {process} is {counted:g}, not {at_least:g}")
