"""Decisions and labels of all kinds, appended at a steady rate while a learner is attacked."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
from aiokafka import AIOKafkaProducer

from features.event import identity
from features.spec import Spec
from features.topics import Topics
from tests.builders_learn import a_decision, a_label

EVENTS_PER_S = 150.0
PARTITIONS = 2
TURNED_SHARE, LABELLED_SHARE, FRAUD_SHARE, EARLY_SHARE = 0.1, 0.4, 0.3, 0.05
MISSING_SHARE = 0.05


@dataclass
class Told:
    """What was put into the log.

    Attributes:
        net: Identity → what the labels say in the end; events without a label are not in it.
    """

    events: int = 0
    labels: int = 0
    net: dict[str, bool] = field(default_factory=dict)


class Load:
    """Appends decisions and labels at a steady rate until it is stopped."""

    def __init__(self, kafka: str, topics: Topics, spec: Spec, seed: int) -> None:
        self._kafka, self._topics, self._spec = kafka, topics, spec
        self._draws = np.random.default_rng(seed)
        self.told = Told()
        self._stop = threading.Event()  # set from another thread

    def stop(self) -> None:
        """End after the event that is being sent."""
        self._stop.set()

    async def run(self) -> None:
        """Send until stopped; returns when everything is acknowledged."""
        producer = AIOKafkaProducer(bootstrap_servers=self._kafka, acks="all", linger_ms=5)
        await producer.start()
        start_s = time.monotonic()
        try:
            while not self._stop.is_set():
                await self._send_one(producer)
                due_s = start_s + self.told.events / EVENTS_PER_S
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        finally:
            await producer.stop()

    async def _send_one(self, producer: AIOKafkaProducer) -> None:
        draws, told = self._draws, self.told
        number, name = told.events, f"e{told.events}"
        at = datetime.now(UTC)
        x = draws.lognormal(0, 1, self._spec.n_features).astype(np.float32)
        x[draws.random(len(x)) < MISSING_SHARE] = np.nan
        body = a_decision(name, at, x, digest=self._spec.digest)
        labels = self._labels_of(name, at)
        early = labels[:1] if draws.random() < EARLY_SHARE else []
        for label in early:
            await self._append(producer, self._topics.labels, number, label)
        await self._append(producer, self._topics.decisions, number, body)
        for label in labels[len(early) :]:
            await self._append(producer, self._topics.labels, number, label)
        told.events += 1
        told.labels += len(labels)

    def _labels_of(self, name: str, at: datetime) -> list[bytes]:
        draws, told = self._draws, self.told
        if draws.random() >= LABELLED_SHARE:
            return []
        fraud = bool(draws.random() < FRAUD_SHARE)
        word = "fraud" if fraud else "legit"
        labels = [a_label(name, word, at)]
        if draws.random() < TURNED_SHARE:
            labels.append(labels[0])  # said twice
        if draws.random() < TURNED_SHARE:
            fraud = not fraud
            turned = "fraud" if fraud else "legit"
            labels.append(a_label(name, turned, at + timedelta(seconds=1)))
        told.net[identity("default", "card_payment", name)] = fraud
        return labels

    async def _append(
        self, producer: AIOKafkaProducer, topic: str, number: int, body: bytes
    ) -> None:
        await producer.send(topic, body, partition=number % PARTITIONS)
