"""`python -m load_tests.label_serving`: a label is appended → the first answer that has learned it.

Payments flow to the topic at a steady rate and are decided; a while after its decision one in
`EVENTS_PER_LABEL` gets a label. Nothing is measured in any process of ours: afterwards the log says
when it took each label, which version's offsets first lie behind that label, and when the first
decision was made by that version or a later one. All clocks are this machine's.
"""

import asyncio
import json
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import ConsumerRecord

from features.spec import Spec
from features.topics import Topics
from load_tests.deployment import KAFKA, REDIS, Deployment, deployed
from load_tests.features_servers import serving
from load_tests.report import ROOT, Row, main
from models.weights import manifest_of

EVENTS_PER_S = 100.0
EVENTS_PER_LABEL = 4
LABEL_AFTER_S = 2.0
SECONDS, QUICK_SECONDS = 60.0, 12.0
WARM_S = 4.0  # of labels that do not count: the processes' first batches
SETTLE_S = 5.0
CARDS, MERCHANTS = 500, 50
READ_TIMEOUT_MS = 500
PREFIX = "serving."


class _Ref(msgspec.Struct):
    version: int


class _Decided(msgspec.Struct):
    decided_at_ms: int
    weights: _Ref | None


class Learned(NamedTuple):
    """A version: its number, and the offsets behind which it knows everything."""

    version: int
    offsets: dict[str, int]


@dataclass(frozen=True)
class Logs:
    """What the log holds in the end."""

    labels: list[ConsumerRecord]
    versions: list[Learned]
    decided: list[tuple[int, int]]
    """(version, decided at in ms), by time."""


def payment(number: int) -> bytes:
    """Return an event, now."""
    return json.dumps(
        {
            "event_type": "card_payment",
            "event_id": f"pay_{number}",
            "event_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "entities": {"card": f"card_{number % CARDS}", "merchant": f"m_{number % MERCHANTS}"},
            "amount": {"value": 100 + number * 7919 % 50_000, "currency": "EUR"},
        }
    ).encode()


def label(number: int) -> bytes:
    """Return what became of an event, known now."""
    return json.dumps(
        {
            "event_type": "card_payment",
            "event_id": f"pay_{number}",
            "label": "fraud" if number * 7919 % 50_000 > 40_000 else "legit",
            "source": "manual_review",
            "state": "confirmed",
            "label_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
    ).encode()


async def load(kafka: str, topics: Topics, seconds: float) -> None:
    """Send payments on time, however long an acknowledgement takes, and their labels after them."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", linger_ms=0)
    await producer.start()
    pending = []
    try:
        start_s = time.monotonic()
        late = int(LABEL_AFTER_S * EVENTS_PER_S)
        labels_end = int(seconds * EVENTS_PER_S)  # payments go on: a last label needs an answer
        for number in range(labels_end + late):
            wait_s = start_s + number / EVENTS_PER_S - time.monotonic()
            await asyncio.sleep(max(0.0, wait_s))
            key = f"card_{number % CARDS}".encode()
            pending.append(await producer.send(topics.events, payment(number), key=key))
            known = number - late
            if known >= 0 and number < labels_end and known % EVENTS_PER_LABEL == 0:
                name = f"pay_{known}".encode()
                pending.append(await producer.send(topics.labels, label(known), key=name))
        await asyncio.gather(*pending)
    finally:
        await producer.stop()


async def read_all(kafka: str, topic: str) -> list[ConsumerRecord]:
    """Return every record of a topic that is there now."""
    found: list[ConsumerRecord] = []
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        for partition, end in (await consumer.end_offsets(list(consumer.assignment()))).items():
            await consumer.seek_to_beginning(partition)
            while await consumer.position(partition) < end:
                batches = await consumer.getmany(partition, timeout_ms=READ_TIMEOUT_MS)
                found += batches.get(partition, [])
    finally:
        await consumer.stop()
    return found


async def read_logs(kafka: str, topics: Topics, digest: str) -> Logs:
    """Return labels, versions and decisions as the log holds them."""
    versions = {}
    for record in await read_all(kafka, topics.weights(digest)):
        manifest = manifest_of(record.value)
        versions[manifest.version] = Learned(manifest.version, manifest.offsets)
    decided = []
    for record in await read_all(kafka, topics.decisions):
        decision = msgspec.json.decode(record.value, type=_Decided)
        if decision.weights is not None:
            decided.append((decision.weights.version, decision.decided_at_ms))
    labels = await read_all(kafka, topics.labels)
    return Logs(
        labels, [versions[v] for v in sorted(versions)], sorted(decided, key=lambda d: d[1])
    )


def delays_s(logs: Logs, first_ms: int) -> list[float]:
    """Return, for each label appended after `first_ms`, the wait for an answer that learned it.

    A label that no version learned, or no answer followed, waits for ever.
    """
    best, newest = [], 0
    for version, at_ms in logs.decided:  # the first answer by a version at least so new
        if version > newest:
            newest = version
            best.append((version, at_ms))
    found = []
    for record in logs.labels:
        if record.timestamp < first_ms:
            continue
        place = f"{record.topic}:{record.partition}"
        learned = next(
            (v.version for v in logs.versions if v.offsets.get(place, 0) > record.offset), None
        )
        answers = [at_ms for version, at_ms in best if learned is not None and version >= learned]
        found.append((answers[0] - record.timestamp) / 1000 if answers else math.inf)
    return found


def rows_of(logs: Logs, waits_s: Sequence[float], servers: str) -> list[Row]:
    """Return the figures."""
    p50, p99 = np.quantile(waits_s, [0.5, 0.99], method="higher").tolist()
    versions = len(logs.versions)
    note = f"{len(waits_s)} labels, {versions} versions; {EVENTS_PER_S:g} payments/s; {servers}"
    what = "label appended → first answer by a version that learned it"
    lost = sum(math.isinf(wait) for wait in waits_s)
    return [
        Row(f"{what}: p50", p50, "s", better="lower", note=note),
        Row(f"{what}: p99", p99, "s", 1.5, 0.5, "lower"),
        Row(f"{what}: max", max(waits_s), "s", better="lower"),
        Row("labels that no answer followed", lost, "labels", 0, 0, "lower"),
    ]


def measure_on(deployment: Deployment, seconds: float, servers: str) -> list[Row]:
    """Load a deployment, then read its log."""
    env = deployment.processes.env
    topics = Topics(env["RISKBEAT_TOPIC_PREFIX"])
    digest = Spec.load(Path(env["RISKBEAT_SPEC_PATH"])).digest
    start_ms = time.time_ns() // 1_000_000
    asyncio.run(load(env[KAFKA], topics, seconds))
    time.sleep(SETTLE_S)
    logs = asyncio.run(read_logs(env[KAFKA], topics, digest))
    waits_s = delays_s(logs, start_ms + round((LABEL_AFTER_S + WARM_S) * 1000))
    return rows_of(logs, waits_s, servers)


@contextmanager
def a_deployment() -> Iterator[tuple[Deployment, str]]:
    """Start servers and processes."""
    with (
        tempfile.TemporaryDirectory(prefix="riskbeat-serving-") as folder,
        serving(Path(folder)) as servers,
    ):
        env = {
            KAFKA: servers.kafka.address,
            REDIS: servers.store.address,
            "RISKBEAT_TOPIC_PREFIX": PREFIX,
            "RISKBEAT_SPEC_PATH": str(ROOT / "features.yaml"),
        }
        with servers.unpinned() as free, deployed(env) as deployment:
            yield deployment, free.words


def measure(quick: bool) -> Sequence[Row]:
    """Deploy and measure."""
    with a_deployment() as (deployment, servers):
        return measure_on(deployment, QUICK_SECONDS if quick else SECONDS, servers)


if __name__ == "__main__":
    main("label_serving", measure)
