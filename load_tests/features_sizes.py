"""What states weigh, and what an event costs when there are many of them."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from features.event import DEFAULT_TENANT, entity_key, partition_of
from load_tests.features_bench import (
    EVENTS_PARTITIONS,
    GOAL_SPEC,
    START_TIMEOUT_S,
    UPDATES_PARTITIONS,
    Bench,
    Look,
    bench,
)
from load_tests.features_log import HOUR_MS, Log, fill, wide_log
from load_tests.features_saturation import now_ms
from load_tests.features_servers import Servers
from load_tests.report import ROOT, Row

CARDS = 200
PAYMENTS_OF_CARD = 60
CARD_SPAN_MS = 30 * 24 * HOUR_MS
MERCHANTS = 500
BYTES_TIMEOUT_S = 60.0

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
QUICK_LARGEST = 1_000_000
EVENTS_AT_LEAST, QUICK_EVENTS_AT_LEAST = 200_000, 40_000
EVENTS_OF_ENTITY = 1.2
SIZE_TIMEOUT_S = 300.0  # of one size, beyond the worker's start


def card_log(end_ms: int, seed: int = 1) -> Log:
    """Return ordinary cards' payments: 60 each in 30 days, at random times and merchants."""
    random = np.random.default_rng(seed)
    n = CARDS * PAYMENTS_OF_CARD
    time_ms = random.integers(end_ms - CARD_SPAN_MS, end_ms, n)
    order = np.argsort(time_ms)
    card = np.repeat(np.arange(CARDS), PAYMENTS_OF_CARD)
    entities = {
        "card": card,
        "merchant": random.integers(0, MERCHANTS, n),
        "device": 2 * card + random.integers(0, 2, n),
        "ip": 3 * card + random.integers(0, 3, n),
    }
    cents = np.maximum(1, random.lognormal(np.log(3000), 0.9, n)).astype(np.int64)
    return Log(time_ms[order], {k: v[order] for k, v in entities.items()}, cents)


def state_bytes(run: Bench, name: str, ids: list[str]) -> list[int]:
    """Return the length of each entity's state as it stands in Redis."""
    prefix = run.env["RISKBEAT_REDIS_PREFIX"]
    keys = [entity_key(DEFAULT_TENANT, name, each) for each in ids]
    names = [f"{prefix}0:{{{partition_of(k, UPDATES_PARTITIONS)}}}:s:".encode() + k for k in keys]
    with run.servers.client() as client, client.pipeline(transaction=False) as pipeline:
        for each in names:
            pipeline.strlen(each)
        return [int(length) for length in pipeline.execute()]


def measure_bytes(servers: Servers, folder: Path) -> list[Row]:
    """Return the rows for the shipped spec and for the goal."""
    rows = []
    for spec, words in ((ROOT / "features.yaml", "features.yaml"), (GOAL_SPEC, "the goal's spec")):
        with bench(servers, folder, spec) as run:
            log = card_log(now_ms())
            topic = run.topic("events.v1")
            ends = fill(servers.kafka.address, topic, log, EVENTS_PARTITIONS)
            process = run.start()
            looks = run.looks(process, ends, "e", START_TIMEOUT_S + BYTES_TIMEOUT_S)
            sizes = state_bytes(run, "card", [f"card_{n}" for n in range(CARDS)])
        lost = sum(ends) - looks[-1].committed
        note = (
            f"mean of {CARDS} cards with {PAYMENTS_OF_CARD} payments in 30 days, read from Redis; "
            f"smallest {min(sizes)}, largest {max(sizes)}; {lost} events not committed"
        )
        mean = float(np.mean(sizes)) if not lost and all(sizes) else float("nan")
        what = f"bytes: state of an ordinary card, {words}"
        rows.append(Row(what, mean, "B", 2048, 600, "lower", note))
    return rows


@dataclass(frozen=True)
class Cost:
    """What one size cost.

    Attributes:
        us_per_event: CPU of the worker over the second half of the events.
    """

    distinct: int
    events: int
    committed: int
    us_per_event: float
    store_bytes: int
    seconds: float


def measure_entities(
    servers: Servers, folder: Path, quick: bool, largest: int | None = None
) -> list[Row]:
    """Return cost per event and bytes by number of entities, and how much the cost grows."""
    at_least = QUICK_EVENTS_AT_LEAST if quick else EVENTS_AT_LEAST
    sizes = [n for n in SIZES if n <= (largest or (QUICK_LARGEST if quick else SIZES[-1]))]
    costs = [cost_at(servers, folder, n, at_least) for n in sizes]
    rows = []
    for cost in costs:
        note = (
            f"over the second half of {cost.committed} committed events (of {cost.events}), "
            f"{cost.distinct} entities in the log, {cost.seconds:.0f} s"
        )
        who = f"entities: {cost.distinct:.2g}"
        rows.append(
            Row(f"{who}: worker CPU per event", cost.us_per_event, "µs", None, None, "lower", note)
        )
        rows.append(Row(f"{who}: Redis used_memory", cost.store_bytes, "B", better="lower"))
        each = cost.store_bytes / cost.distinct
        rows.append(Row(f"{who}: Redis bytes for each entity", each, "B", better="lower"))
    if len(costs) == 1:
        return rows
    growth = max(c.us_per_event for c in costs[1:]) / costs[0].us_per_event
    undone = [c for c in costs if c.committed < c.events]
    note = f"largest of the larger sizes against {costs[0].distinct:.2g} entities"
    if undone:
        note += f"; not all committed within {SIZE_TIMEOUT_S:g} s at {undone[0].distinct:.2g}"
    if sizes[-1] < SIZES[-1]:
        note += f"; only up to {sizes[-1]:.2g} entities in this run"
    return [*rows, Row("entities: cost per event grows by", growth, "x", 1.5, 1.2, "lower", note)]


def cost_at(servers: Servers, folder: Path, distinct: int, at_least: int) -> Cost:
    """Run a log of so many entities through a worker."""
    events = max(at_least, round(EVENTS_OF_ENTITY * distinct / 4))
    log = wide_log(events, distinct, now_ms())
    with bench(servers, folder) as run:
        empty = servers.used_bytes()
        ends = fill(servers.kafka.address, run.topic("events.v1"), log, EVENTS_PARTITIONS)
        start_s = time.monotonic()
        looks = run.looks(run.start(), ends, "e", START_TIMEOUT_S + SIZE_TIMEOUT_S)
        last = looks[-1]
        return Cost(
            distinct=log.distinct(),
            events=events,
            committed=last.committed,
            us_per_event=cost_of_second_half(looks),
            store_bytes=servers.used_bytes() - empty,
            seconds=last.at_s - start_s,
        )


def cost_of_second_half(looks: list[Look]) -> float:
    """Return CPU microseconds per event from half of what was committed to the end."""
    last = looks[-1]
    half = next(look for look in looks if look.committed >= last.committed / 2)
    events = last.committed - half.committed
    return 1e6 * (last.cpu_s - half.cpu_s) / events if events else float("nan")
