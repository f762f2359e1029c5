"""Label transitions beside events: what a worker's CPU-second holds of them.

The same events are committed twice, without and with as many transitions waiting beside them; the
transitions' cost is the difference. A third run holds transitions alone.
"""

import asyncio
import statistics
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaProducer

from load_tests.features_bench import EVENTS_PARTITIONS, START_TIMEOUT_S, bench
from load_tests.features_log import (
    BATCH_BYTES,
    HOUR_MS,
    POPULATION,
    Ints,
    Log,
    append,
    fill,
    zipf_log,
)
from load_tests.features_saturation import now_ms
from load_tests.features_servers import Servers
from load_tests.report import Row

SPEC = Path(__file__).parent / "goal_labels.yaml"
EVENTS, QUICK_EVENTS = 100_000, 30_000
RUNS, QUICK_RUNS = 3, 1
RUN_TIMEOUT_S = 90.0
KNOWN_AFTER_MS = HOUR_MS
FRAUD_EVERY = 50


def transitions(log: Log, rows: Ints) -> list[bytes]:
    """Return one first label for each of these events, numbered from 1 as a learner would."""
    at = (log.time_ms[rows] + KNOWN_AFTER_MS).astype("datetime64[ms]")
    times = np.datetime_as_string(at, unit="ms").tolist()
    columns = [log.entities[name][rows].tolist() for name in POPULATION]
    found = []
    for seq, (row, time, c, m, d, i) in enumerate(
        zip(rows.tolist(), times, *columns, strict=True), 1
    ):
        label = "fraud" if row % FRAUD_EVERY == 0 else "legit"
        found.append(
            f'{{"event_type":"card_payment","event_id":"e{row}","entities":{{"card":"card_{c}",'
            f'"merchant":"merchant_{m}","device":"device_{d}",'
            f'"ip":"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}"}},"label_time":"{time}Z",'
            f'"label":"{label}","sign":1,"seq":{seq},"transition_id":"t{row}"}}'.encode()
        )
    return found


def fill_transitions(kafka: str, topic: str, log: Log) -> list[int]:
    """Append a transition for every event of the log; return their count by partition."""
    owner = log.partition(EVENTS_PARTITIONS)
    rows = [np.flatnonzero(owner == p) for p in range(EVENTS_PARTITIONS)]

    async def send() -> None:
        async with AIOKafkaProducer(
            bootstrap_servers=kafka, acks="all", max_batch_size=BATCH_BYTES
        ) as producer:
            for p, mine in enumerate(rows):
                await append(producer, topic, p, transitions(log, mine))

    asyncio.run(send())
    return [mine.size for mine in rows]


def cpu_for(servers: Servers, folder: Path, log: Log, *, events: bool, labels: bool) -> float:
    """Return the worker's CPU seconds from all partitions opened to the last commit.

    Raises:
        TimeoutError: Not all was committed within `RUN_TIMEOUT_S`.
    """
    with bench(servers, folder, SPEC) as run:
        kafka, none = servers.kafka.address, [0] * EVENTS_PARTITIONS
        of_events = fill(kafka, run.topic("events.v1"), log, EVENTS_PARTITIONS) if events else none
        of_labels = fill_transitions(kafka, run.topic("label_updates.v1"), log) if labels else none
        process = run.start()
        timeout_s = START_TIMEOUT_S + RUN_TIMEOUT_S
        looks = run.looks(
            process, of_events if events else of_labels, "e" if events else "l", timeout_s
        )
        opened = next(look for look in looks if look.opened)
        if events and labels:
            looks = run.looks(process, of_labels, "l", timeout_s)
        wanted = sum(of_labels if labels else of_events)
        if looks[-1].committed < wanted:
            raise TimeoutError(f"{looks[-1].committed} of {wanted} committed in {timeout_s:g} s")
        return looks[-1].cpu_s - opened.cpu_s


def measure_labels(servers: Servers, folder: Path, quick: bool) -> list[Row]:
    """Return transitions per CPU-second, beside events and alone."""
    n = QUICK_EVENTS if quick else EVENTS
    costs = []
    for _ in range(QUICK_RUNS if quick else RUNS):
        log = zipf_log(n, now_ms())
        without = cpu_for(servers, folder, log, events=True, labels=False)
        beside = cpu_for(servers, folder, log, events=True, labels=True)
        costs.append(beside - without)
    alone = cpu_for(servers, folder, log, events=False, labels=True)
    cost = statistics.median(costs)
    each = ", ".join(f"{one:.2f}" for one in costs)
    note = (
        f"{n} transitions / (CPU with {n} events and them - CPU with the events only), median of "
        f"{len(costs)} ({each} CPU-s); goal spec with label aggregates on four entities"
    )
    what = "labels: transitions, beside the events"
    rate = n / cost if cost > 0 else float("nan")
    return [
        Row(what, rate, "transitions/CPU-s", 30_000, 60_000, note=note),
        Row("labels: transitions alone", n / alone, "transitions/CPU-s"),
    ]
