"""Open-loop arrivals and a reader's view of them, each in a process of its own, on one clock.

The producer sends each event when it is due, whatever became of earlier ones; the reader asks the
store for the marks as often as it can. Both write what they saw with the monotonic clock, which all
processes of a machine share.
"""

import asyncio
import gc
import logging
import multiprocessing
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from typing import Any

import numpy as np
import redis
import uvloop
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

from load_tests.features_log import BATCH_BYTES, POPULATION, body, zipf

POLL_PAUSE_S = 0.002  # counts against us; a tighter loop would take a core from the measured
LINGER_MS = 0
FAST_RATE = 1000.0  # from here on the producer gathers, as every producer of so many events does
GATHER_S = 0.002
START_S = 1.0  # between connecting and the first arrival
BUILD_S = 20e-6  # of one event's bytes, which are made before the first arrival
STOP_TIMEOUT_S = 30.0

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Arrivals:
    """What the producer saw. Times are monotonic seconds; all shapes are (n,).

    Attributes:
        due_s: When the event was due; sends that came late count from here.
        sent_s: When it was handed to the client.
        acked_s: When the broker's answer was there.
        partition: Of events.v1.
        offset: In that partition.
        entities: Name → which of that kind.
    """

    due_s: Floats
    sent_s: Floats
    acked_s: Floats
    partition: Ints
    offset: Ints
    entities: dict[str, Ints]


@dataclass(frozen=True)
class Sight:
    """What the reader saw at one moment: the raw marks of all updates partitions."""

    at_s: float
    marks: list[bytes | None]


@dataclass(frozen=True)
class Plan:
    """What to send.

    Attributes:
        rate: Mean arrivals per second; gaps are exponential.
    """

    kafka: str
    topic: str
    partitions: int
    rate: float
    seconds: float
    seed: int


def produce(plan: Plan) -> Arrivals:
    """Send arrivals until the plan is done; return what was seen."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    random = np.random.default_rng(plan.seed)
    gaps = random.exponential(1 / plan.rate, round(plan.rate * plan.seconds))
    entities = {name: zipf(random, size, gaps.size) for name, size in POPULATION.items()}
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Sending(plan, np.cumsum(gaps), entities).run())


class _Sending:
    """The state of one plan while it is sent."""

    def __init__(self, plan: Plan, delay_s: Floats, entities: dict[str, Ints]) -> None:
        self.plan = plan
        self.delay_s = delay_s
        self.entities = entities
        self.partition = np.asarray(entities["card"] % plan.partitions)
        n = delay_s.size
        self.sent_s, self.acked_s = np.zeros(n), np.full(n, np.nan)
        self.offset = np.full(n, -1, np.int64)
        self.waiting: list[list[int]] = [[] for _ in range(plan.partitions)]
        self.wake = [asyncio.Event() for _ in range(plan.partitions)]
        self.open: set[asyncio.Future[Any]] = set()
        self.ended = False

    async def run(self) -> Arrivals:
        """Give every event to its partition's sender when it is due."""
        async with AIOKafkaProducer(
            bootstrap_servers=self.plan.kafka,
            acks="all",
            linger_ms=LINGER_MS,
            max_batch_size=BATCH_BYTES,
        ) as self.producer:
            await self.producer.partitions_for(self.plan.topic)
            ahead_s = START_S + BUILD_S * self.delay_s.size
            self.start_s = time.monotonic() + ahead_s
            self.bodies = self.build(time.time() + ahead_s)
            if time.monotonic() > self.start_s:
                raise RuntimeError(f"the events were not made within {ahead_s:.1f} s")
            senders = [asyncio.create_task(self.send(p)) for p in range(self.plan.partitions)]
            await self.arrive()
            self.ended = True
            for each in self.wake:
                each.set()
            await asyncio.gather(*senders)
            await asyncio.gather(*self.open)
        due_s = self.start_s + self.delay_s
        return Arrivals(
            due_s, self.sent_s, self.acked_s, self.partition, self.offset, self.entities
        )

    def build(self, start_wall_s: float) -> list[bytes]:
        """Return every event's bytes, so that making them is not in the way of sending them."""
        columns = [self.entities[name].tolist() for name in POPULATION]
        return [
            body(f"p{self.plan.seed}_{row}", at.isoformat(), 1000 + row % 9000, c, m, d, i)
            for row, (delay_s, c, m, d, i) in enumerate(
                zip(self.delay_s.tolist(), *columns, strict=True)
            )
            for at in (datetime.fromtimestamp(start_wall_s + delay_s, UTC),)
        ]

    async def arrive(self) -> None:
        """Let events come due; at a high rate, look for them every `GATHER_S` only."""
        gather_s = GATHER_S if self.plan.rate >= FAST_RATE else 0.0
        owners, delays = self.partition.tolist(), self.delay_s.tolist()
        row = 0
        while row < len(delays):
            elapsed_s = time.monotonic() - self.start_s
            while row < len(delays) and delays[row] <= elapsed_s:
                self.waiting[owners[row]].append(row)
                self.wake[owners[row]].set()
                row += 1
            pause_s = delays[row] - elapsed_s if row < len(delays) else 0.0
            await asyncio.sleep(max(gather_s, pause_s))

    async def send(self, p: int) -> None:
        """Send what is due, as soon as the client has sent what was due before."""
        while True:
            if not self.waiting[p]:
                if self.ended:
                    return
                self.wake[p].clear()
                await self.wake[p].wait()
                continue
            rows, self.waiting[p] = self.waiting[p], []
            batch = self.producer.create_batch()
            for place, row in enumerate(rows):
                if batch.append(key=None, value=self.bodies[row], timestamp=None) is None:
                    self.waiting[p] = rows[place:] + self.waiting[p]
                    rows = rows[:place]
                    break
            self.sent_s[rows] = time.monotonic()
            answer = await self.producer.send_batch(batch, self.plan.topic, partition=p)
            self.open.add(answer)
            answer.add_done_callback(lambda done, rows=rows: self.acked(rows, done))

    def acked(self, rows: list[int], answer: "asyncio.Future[Any]") -> None:
        """Keep when and where a batch was taken."""
        self.acked_s[rows] = time.monotonic()
        self.offset[rows] = answer.result().offset + np.arange(len(rows))
        self.open.discard(answer)


def watch_marks(url: str, keys: list[str], stop: Flag) -> list[Sight]:
    """Ask for the marks again and again; return every change, and the times of all looks."""
    gc.disable()
    found: list[Sight] = []
    last: list[bytes | None] = []
    with redis.Redis.from_url(url) as client:
        while not stop.is_set():
            marks = client.mget(keys)
            at_s = time.monotonic()
            if marks != last:
                found.append(Sight(at_s, marks))
                last = marks
            time.sleep(POLL_PAUSE_S)
    return found


def _produce_to(path: Path, plan: Plan) -> None:
    path.write_bytes(pickle.dumps(produce(plan)))


def _watch_to(path: Path, url: str, keys: list[str], stop: Flag) -> None:
    path.write_bytes(pickle.dumps(watch_marks(url, keys, stop)))


@dataclass
class Reading:
    """A reader in a process of its own."""

    process: Any
    stop: Flag
    path: Path

    def end(self) -> list[Sight]:
        """Stop it; return what it saw."""
        self.stop.set()
        self.process.join(STOP_TIMEOUT_S)
        sights: list[Sight] = pickle.loads(self.path.read_bytes())
        return sights


@contextmanager
def reading(folder: Path, url: str, keys: list[str]) -> Iterator[Reading]:
    """Watch marks from another process until `end`, or the end of the block."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    path = folder / "sights.pickle"
    process = spawn.Process(target=_watch_to, args=(path, url, keys, stop), daemon=True)
    process.start()
    try:
        yield Reading(process, stop, path)
    finally:
        stop.set()
        process.join(STOP_TIMEOUT_S)
        process.kill()


@contextmanager
def producing(folder: Path, plan: Plan) -> Iterator[Any]:
    """Send from another process; yield a function that waits for it and returns the arrivals."""
    spawn = multiprocessing.get_context("spawn")
    path = folder / "arrivals.pickle"
    process = spawn.Process(target=_produce_to, args=(path, plan), daemon=True)
    process.start()

    def wait() -> Arrivals:
        process.join(plan.seconds * (1 + plan.rate * BUILD_S) + START_S + STOP_TIMEOUT_S)
        if process.exitcode != 0:
            raise RuntimeError(f"the producer ended with {process.exitcode}")
        arrivals: Arrivals = pickle.loads(path.read_bytes())
        return arrivals

    try:
        yield wait
    finally:
        process.kill()
