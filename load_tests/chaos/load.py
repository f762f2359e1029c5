"""seed → decisions asked over HTTP, events on the stream and labels, and what became of each."""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from features.event import identity
from features.topics import Topics
from load_tests.chaos_features.load import MALFORMED_BODIES

HTTP_PER_S, STREAM_PER_S = 15.0, 30.0
LABELLED, POISON = 0.3, 0.02
LABEL_AFTER_S = (0.5, 3.0)
ANSWER_TIMEOUT_S = 3.0
AGAIN_AFTER_S, AGAIN_AT_MOST_S = 0.2, 5.0  # twice as long after each try
GIVE_UP_S = 90.0
BEAT_S = 0.05
CARDS, MERCHANTS = 300, 40
AMOUNTS = (100, 90_000)
LARGE_FROM, FRAUD, FRAUD_OF_LARGE = 72_000, 0.05, 0.8  # so that there is something to be learned
TYPE, TENANT = "card_payment", "default"


@dataclass(frozen=True)
class Heard:
    """One answer of status 200, whole, and when it was asked for."""

    asked_at_s: float
    took_s: float
    answer: dict[str, Any]


@dataclass
class Told:
    """What was sent, and what came back.

    Attributes:
        answers: Event id → the answer that its asker got in the end.
        statuses: Of all answers; 0 where none came.
        faults: (when, status or error) of what was neither taken nor refused early;
            monotonic seconds of the end.
        refusals: (when asked, status) of every other answer than 200.
        own_delays: (since when, seconds) that the asker itself was late.
        net: Identity → what its labels say in the end.
        lost: Event ids that were asked for until the end, in vain.
    """

    answers: dict[str, Heard] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[tuple[float, str]] = field(default_factory=list)
    refusals: list[tuple[float, int]] = field(default_factory=list)
    own_delays: list[tuple[float, float]] = field(default_factory=list)
    net: dict[str, bool] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    streamed: int = 0
    labels: int = 0
    poison: int = 0

    def own_delay_s(self, heard: Heard) -> float:
        """Return how long the asker itself was late while it waited for an answer."""
        end_s = heard.asked_at_s + heard.took_s
        return sum(
            late_s for since_s, late_s in self.own_delays if heard.asked_at_s <= since_s <= end_s
        )


class Load:
    """Runs in a thread of its own until it is stopped; then finishes what it began.

    Attributes:
        pace: Times the usual rates; may change at any time.
        stream_pace: Times that, of the stream alone; likewise.
        poison: Share of the stream's events that come with something unreadable; likewise.
        amounts: Between which an event's amount is drawn; likewise.
        begun: Events that were begun, asked or streamed.
    """

    def __init__(self, kafka: str, topics: Topics, port: int, partitions: int, seed: int) -> None:
        self._kafka, self._topics, self._port = kafka, topics, port
        self._partitions = partitions
        self._draw = random.Random(seed)
        self._seed = seed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._tasks: set[asyncio.Task[None]] = set()
        self.told = Told()
        self.pace = self.stream_pace = 1.0
        self.poison, self.amounts = POISON, AMOUNTS
        self.begun = 0
        self.failure: BaseException | None = None

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin nothing more; return when all that was begun is answered, or given up."""
        self._stopping.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure

    async def _run(self) -> None:
        log = _Log(self._kafka)
        try:
            free = aiohttp.TCPConnector(limit=0)  # nobody waits for another's connection
            within = aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S)
            async with aiohttp.ClientSession(connector=free, timeout=within) as http:
                asking = self._every(
                    lambda: HTTP_PER_S * self.pace, lambda n: self._ask(http, log, n)
                )
                streaming = self._every(
                    lambda: STREAM_PER_S * self.pace * self.stream_pace,
                    lambda n: self._stream(log, n),
                )
                beating = asyncio.ensure_future(self._beat())
                await asyncio.gather(asking, streaming)
                while self._tasks:
                    await asyncio.wait(self._tasks)
                beating.cancel()
        except BaseException as error:
            self.failure = error
        finally:
            await log.stop()

    async def _beat(self) -> None:
        """Note when this loop, which takes the times, was late itself."""
        while True:
            due_s = time.monotonic() + BEAT_S
            await asyncio.sleep(BEAT_S)
            late_s = time.monotonic() - due_s
            if late_s > BEAT_S:
                self.told.own_delays.append((due_s, late_s))

    async def _every(self, per_s: Callable[[], float], begin: Any) -> None:
        """Begin something at a steady rate, whatever became of what was begun before."""
        due_s, number = time.monotonic(), 0
        while not self._stopping.is_set():
            task = asyncio.ensure_future(begin(number))
            self._tasks.add(task)
            task.add_done_callback(self._done)
            number += 1
            self.begun += 1
            due_s += 1 / per_s()
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = error

    async def _ask(self, http: aiohttp.ClientSession, log: "_Log", number: int) -> None:
        """Ask for one decision until it is answered: a caller that means it."""
        name = f"h{self._seed}-{number}"
        amount, body = self._event(name)
        url = f"http://127.0.0.1:{self._port}/v1/decisions"
        told, begun_s, again_s = self.told, time.monotonic(), AGAIN_AFTER_S
        while time.monotonic() < begun_s + GIVE_UP_S:
            asked_s = time.monotonic()
            try:
                async with http.post(url, data=body) as response:
                    status, answer = response.status, await response.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                told.statuses[0] += 1
                told.faults.append((time.monotonic(), type(error).__name__))
            else:
                told.statuses[status] += 1
                if status == 200:
                    took_s = time.monotonic() - asked_s
                    told.answers[name] = Heard(asked_s, took_s, json.loads(answer))
                    await self._label(log, name, amount)
                    return
                told.refusals.append((asked_s, status))
                if status not in {409, 429, 503}:
                    told.faults.append((asked_s, f"{status} {answer[:200].decode()}"))
            await asyncio.sleep(again_s)
            again_s = min(2 * again_s, AGAIN_AT_MOST_S)
        told.lost.append(name)

    async def _stream(self, log: "_Log", number: int) -> None:
        name = f"s{self._seed}-{number}"
        partition = number % self._partitions
        if self._draw.random() < self.poison:
            self.told.poison += 1
            body = self._draw.choice(MALFORMED_BODIES)
            topic = self._draw.choice((self._topics.events, self._topics.labels))
            await log.append(topic, body, partition)
        amount, body = self._event(name)
        if await log.append(self._topics.events, body, partition):
            self.told.streamed += 1
            await self._label(log, name, amount)

    async def _label(self, log: "_Log", name: str, amount: int) -> None:
        """Say later what an event was, for some; a label is sent until it is in the log."""
        if self._draw.random() >= LABELLED:
            return
        fraud = self._draw.random() < (FRAUD if amount < LARGE_FROM else FRAUD_OF_LARGE)
        await asyncio.sleep(self._draw.uniform(*LABEL_AFTER_S))
        label = {
            "event_type": TYPE,
            "event_id": name,
            "label": "fraud" if fraud else "legit",
            "source": "manual_review",
            "label_time": datetime.now(UTC).isoformat(),
        }
        body = json.dumps(label).encode()
        begun_s = time.monotonic()
        while not await log.append(self._topics.labels, body, 0):
            if time.monotonic() > begun_s + GIVE_UP_S:
                raise TimeoutError("the log takes no labels")
            await asyncio.sleep(AGAIN_AFTER_S)
        self.told.net[identity(TENANT, TYPE, name)] = fraud
        self.told.labels += 1

    def _event(self, name: str) -> tuple[int, bytes]:
        """Return an event's amount, in minor units, and its body."""
        draw = self._draw
        card, amount = draw.randrange(CARDS), draw.randrange(*self.amounts)
        event = {
            "event_type": TYPE,
            "event_id": name,
            "event_time": (datetime.now(UTC) - timedelta(milliseconds=5)).isoformat(),
            "entities": {
                "card": f"c{card}",
                "merchant": f"m{int(MERCHANTS * draw.random() ** 2)}",
                "device": f"d{card}",
                "ip": f"10.0.0.{card % 256}",
            },
            "amount": {"value": amount, "currency": "EUR"},
            "attributes": {"country": draw.choice(("FR", "DE", "IT"))},
        }
        return amount, json.dumps(event).encode()


class _Log:
    """The log as its producers see it: one idempotent client, made anew when it fails.

    A broker that comes back may not know the sequence of the client from before; it then refuses
    all that this client sends, for good.
    """

    def __init__(self, kafka: str) -> None:
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None
        self._changing = asyncio.Lock()

    async def append(self, topic: str, body: bytes, partition: int) -> bool:
        """Return whether it is known to be in the log."""
        producer = None
        try:
            producer = await self._client()
            await producer.send_and_wait(topic, body, partition=partition)
        except KafkaError:
            if producer is not None and producer is self._producer:
                self._producer = None
                await _stop(producer)
            return False
        return True

    async def stop(self) -> None:
        """Send what is buffered and disconnect."""
        if self._producer is not None:
            await _stop(self._producer)

    async def _client(self) -> AIOKafkaProducer:
        async with self._changing:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._kafka, acks="all", linger_ms=2, enable_idempotence=True
                )
                try:
                    await producer.start()
                except KafkaError:
                    await _stop(producer)
                    raise
                self._producer = producer
            return self._producer


async def _stop(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError):
        await producer.stop()
