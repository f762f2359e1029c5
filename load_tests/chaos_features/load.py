"""seed → events and label transitions in the log, without pause: what real sources do wrong too.

Entities are drawn by Zipf's law. Some events come twice, some late, some too late to count, some
are no events; transitions come twice, too. A broker that is away is waited for.
"""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from features.event import from_ms
from features.topics import Topics

STEP_MS = 2_000  # of event time, between events
HEADSTART_MS = 12 * 24 * 3_600_000  # how long ago event time begins
TICK_S = 0.05
RATES_PER_S = (40, 150, 150, 250, 600)  # drawn anew every second: quiet, usual, and a burst
ENTITIES = {"card": 3_000, "merchant": 200, "device": 2_000, "ip": 800}
ZIPF = 1.1
REPEATED, MALFORMED, TRANSITIONS, REVERSED = 0.05, 0.01, 0.05, 0.2
DELAYS_MS = (0, 0, 0, 0, 0, 30_000, 600_000, 3 * 3_600_000)
SEND_TIMEOUT_S = 5.0
MALFORMED_BODIES = (
    b'{"event_type": null}',
    b'{"event_type": "card_payment", "event_id": "x"',
    b"\xff\xfe\x00",
    b"[]",
    b"",
)


@dataclass
class Load:
    """A source that runs in a thread of its own until its `with` block ends."""

    kafka: str
    topics: Topics
    events_partitions: int
    label_partitions: int
    seed: int
    sent: Counter[str] = field(default_factory=Counter)
    _done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Draw nothing yet, but prepare to."""
        self._draw = random.Random(self.seed)
        self._start_ms = int(time.time() * 1000) - HEADSTART_MS
        self._weights = {
            name: list(accumulate(1 / rank**ZIPF for rank in range(1, count + 1)))
            for name, count in ENTITIES.items()
        }
        self._newest: list[tuple[int, bytes]] = []
        self._numbers = [0] * self.label_partitions
        self._given: list[list[dict[str, Any]]] = [[] for _ in self._numbers]
        self._count = 0

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send nothing more; return when what was sent is in the log."""
        self._done.set()
        self._thread.join()

    async def _run(self) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.kafka, acks="all", linger_ms=5)
        await producer.start()
        try:
            while not self._done.is_set():
                rate = self._draw.choice(RATES_PER_S)
                for _ in range(round(1 / TICK_S)):
                    await asyncio.sleep(TICK_S)
                    for _ in range(round(rate * TICK_S)):
                        await self._send_one(producer)
                    if self._done.is_set():
                        break
        finally:
            with suppress(KafkaError):
                await producer.stop()

    async def _send_one(self, producer: AIOKafkaProducer) -> None:
        """Send one event, and now and then a transition; what the log refuses is not in it."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                s, body = self._event()
                sent = await producer.send(self.topics.events, body, partition=s)
                sent.add_done_callback(lambda done: done.cancelled() or done.exception())
                if self._draw.random() < TRANSITIONS:
                    s, body = self._transition()
                    for _ in range(self._draw.choice((1, 1, 2))):
                        sent = await producer.send(self.topics.label_updates, body, partition=s)
                        sent.add_done_callback(lambda done: done.cancelled() or done.exception())
        except (KafkaError, TimeoutError):
            self.sent["not taken by the log"] += 1

    def _event(self) -> tuple[int, bytes]:
        self.sent["events"] += 1
        draw = self._draw.random()
        if draw < MALFORMED:
            self.sent["malformed"] += 1
            body = self._draw.choice(MALFORMED_BODIES)
            return self._draw.randrange(self.events_partitions), body
        if draw < MALFORMED + REPEATED and self._newest:
            self.sent["repeated"] += 1
            return self._draw.choice(self._newest)
        self._count += 1
        delay_ms = self._draw.choice(DELAYS_MS)
        self.sent["late"] += delay_ms > 0
        event = {
            "event_type": "card_payment",
            "event_id": f"e{self._count}",
            "event_time": self._time(self._count * STEP_MS - delay_ms),
            "entities": {name: self._entity(name) for name in ENTITIES},
            "amount": {"value": self._draw.randrange(100, 90_000), "currency": "EUR"},
            "attributes": {"country": self._draw.choice(("FR", "DE", "IT"))},
        }
        one = self._draw.randrange(self.events_partitions), json.dumps(event).encode()
        self._newest = [*self._newest[-49:], one]
        return one

    def _transition(self) -> tuple[int, bytes]:
        self.sent["transitions"] += 1
        s = self._draw.randrange(self.label_partitions)
        if self._draw.random() < MALFORMED:
            return s, b'{"seq": "no number"}'
        self._numbers[s] += 1
        given = self._given[s]
        if given and self._draw.random() < REVERSED:
            transition = given.pop() | {"sign": -1}
        else:
            transition = {
                "event_type": "card_payment",
                "event_id": f"e{self._draw.randrange(self._count + 1)}",
                "entities": {name: self._entity(name) for name in ("card", "merchant")},
                "label_time": self._time(self._count * STEP_MS),
                "label": self._draw.choice(("fraud", "legit")),
                "sign": 1,
            }
            self._given[s] = [*given[-49:], transition]
        numbered = {"seq": self._numbers[s], "transition_id": f"t{s}.{self._numbers[s]}"}
        return s, json.dumps(transition | numbered).encode()

    def _entity(self, name: str) -> str:
        weights = self._weights[name]
        (rank,) = self._draw.choices(range(len(weights)), cum_weights=weights)
        return f"{name}{rank}"

    def _time(self, after_ms: int) -> str:
        return from_ms(self._start_ms + after_ms).isoformat()
