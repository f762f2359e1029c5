"""(seed, size) → a log of payments in memory → the events topic: what every measurement reads.

Entities are drawn by Zipf's law (the k-th most frequent has a share of 1/k), or spread so that
each has one to three events. The same seed gives the same log.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from aiokafka import AIOKafkaProducer
from numpy.typing import NDArray

HOUR_MS = 3_600_000
SPAN_H = 48
POPULATION = {"card": 20_000, "merchant": 2_000, "device": 25_000, "ip": 10_000}
BATCH_BYTES = 512 * 1024
SLICE_EVENTS = 20_000
TRIES_OF_ENTITY = np.array([1] * 17 + [2] * 2 + [3])  # events of one entity: mean 1.2

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Log:
    """Payments in columns, ascending by time.

    Attributes:
        time_ms: int64, shape (n,).
        entities: Name → int64, shape (n,): which of that kind.
        cents: int64, shape (n,): amount.
    """

    time_ms: Ints
    entities: dict[str, Ints]
    cents: Ints

    def __len__(self) -> int:
        return self.time_ms.size

    def partition(self, partitions: int) -> Ints:
        """Return each event's partition: that of its card."""
        return np.asarray(self.entities["card"] % partitions)

    def first(self, events: int) -> "Log":
        """Return the log's first events."""
        entities = {name: ids[:events] for name, ids in self.entities.items()}
        return Log(self.time_ms[:events], entities, self.cents[:events])

    def distinct(self) -> int:
        """Count the entities that occur."""
        return sum(np.unique(ids).size for ids in self.entities.values())

    def bodies(self, rows: Ints) -> Iterator[bytes]:
        """Yield the JSON of these events; `event_id` is the row."""
        times = np.datetime_as_string(self.time_ms[rows].astype("datetime64[ms]"), unit="ms")
        columns = [self.entities[name][rows].tolist() for name in POPULATION]
        cents = self.cents[rows].tolist()
        for row, at, amount, c, m, d, i in zip(
            rows.tolist(), times.tolist(), cents, *columns, strict=True
        ):
            yield body(f"e{row}", f"{at}Z", amount, c, m, d, i)


def body(event_id: str, at: str, cents: int, c: int, m: int, d: int, i: int) -> bytes:
    """Return one event as a producer would write it."""
    return (
        f'{{"event_type":"card_payment","event_id":"{event_id}","event_time":"{at}",'
        f'"entities":{{"card":"card_{c}","merchant":"merchant_{m}","device":"device_{d}",'
        f'"ip":"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}"}},'
        f'"amount":{{"value":{cents},"currency":"EUR"}},'
        f'"attributes":{{"mcc":"{5000 + m % 900}","country":"FR","channel":"ecom"}}}}'
    ).encode()


def zipf(random: np.random.Generator, size: int, count: int) -> Ints:
    """Draw `count` ranks below `size`, rank k with a share of 1/(k + 1)."""
    shares = np.cumsum(1.0 / np.arange(1, size + 1))
    ranks = np.searchsorted(shares, random.random(count) * shares[-1])
    return np.asarray(ranks, np.int64)


def spread(random: np.random.Generator, size: int, count: int) -> Ints:
    """Draw ids below `size` so that each comes one to three times, cut or filled to `count`."""
    times = TRIES_OF_ENTITY[random.integers(0, TRIES_OF_ENTITY.size, size)]
    ids = np.repeat(np.arange(size), times)
    if ids.size < count:
        ids = np.concatenate([ids, random.integers(0, size, count - ids.size)])
    random.shuffle(ids)
    return np.asarray(ids[:count], np.int64)


def zipf_log(events: int, end_ms: int, seed: int = 1) -> Log:
    """Return `events` payments over the 48 hours before `end_ms`, with Zipf entities."""
    random = np.random.default_rng(seed)
    entities = {name: zipf(random, size, events) for name, size in POPULATION.items()}
    return _log(random, entities, events, end_ms)


def wide_log(events: int, distinct: int, end_ms: int, seed: int = 1) -> Log:
    """Return payments over 48 hours whose four kinds share `distinct` entities evenly."""
    random = np.random.default_rng(seed)
    entities = {name: spread(random, distinct // 4, events) for name in POPULATION}
    return _log(random, entities, events, end_ms)


def _log(random: np.random.Generator, entities: dict[str, Ints], n: int, end_ms: int) -> Log:
    span_ms = SPAN_H * HOUR_MS
    time_ms = np.sort(random.integers(end_ms - span_ms, end_ms, n))
    cents = np.maximum(1, random.lognormal(np.log(3000), 0.9, n)).astype(np.int64)
    return Log(time_ms, entities, cents)


def fill(kafka: str, topic: str, log: Log, partitions: int) -> list[int]:
    """Append the log to its topic; return the count of events by partition."""
    owner = log.partition(partitions)
    rows = [np.flatnonzero(owner == p) for p in range(partitions)]
    slices = [
        [mine[i : i + SLICE_EVENTS] for i in range(0, mine.size, SLICE_EVENTS)] for mine in rows
    ]

    async def send() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=kafka, acks="all", max_batch_size=BATCH_BYTES
        ) as producer:
            for turn in range(max(map(len, slices), default=0)):
                for p in range(partitions):
                    if turn < len(slices[p]):
                        await append(producer, topic, p, list(log.bodies(slices[p][turn])))

    asyncio.run(send())
    return [mine.size for mine in rows]


async def append(
    producer: AIOKafkaProducer, topic: str, partition: int, values: Sequence[bytes]
) -> None:
    """Append records to a partition in batches as large as the producer allows."""
    sent = []
    batch = producer.create_batch()
    for value in values:
        if batch.append(key=None, value=value, timestamp=None) is None:
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=None, value=value, timestamp=None)
    if batch.record_count():
        sent.append(await producer.send_batch(batch, topic, partition=partition))
    await asyncio.gather(*sent)
