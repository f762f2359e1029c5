"""Freshness: an event is due at the producer → a reader of the store sees it, on one clock.

An event is readable when the mark beside the states of each partition that owns one of its entities
has passed the event's offset: mark and states are written in one step, and read in one.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.event import DEFAULT_TENANT, entity_key, partition_of
from load_tests.features_arrivals import (
    FAST_RATE,
    GATHER_S,
    Arrivals,
    Floats,
    Ints,
    Plan,
    Sight,
    producing,
    reading,
)
from load_tests.features_bench import (
    EVENTS_PARTITIONS,
    UPDATES_PARTITIONS,
    bench,
    committed,
    next_offsets,
    wait_opened,
)
from load_tests.features_servers import Servers
from load_tests.processes import wait_until
from load_tests.report import Row

LOW_RATE = 200.0
SECONDS, QUICK_SECONDS = 20.0, 8.0
WARM_S = 3.0  # of arrivals that do not count: a new worker's first batches
LIVE_SECONDS = 8.0
KEPT_UP, OFFERS = 0.9, 3  # share of what is sent; further tries with twice as much
SETTLE_TIMEOUT_S = 60.0
SETTLED_WORKER_S = 3.0  # between a worker's opening its partitions and the first arrival


def entity_id(name: str, number: int) -> str:
    """Return an entity's id as `features_log.body` writes it."""
    if name == "ip":
        return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
    return f"{name}_{number}"


def owners_of(arrivals: Arrivals) -> Ints:
    """Return, shape (n, entities), the updates partitions that own each event's entities."""
    columns = []
    for name, numbers in arrivals.entities.items():
        distinct, place = np.unique(numbers, return_inverse=True)
        keys = [entity_key(DEFAULT_TENANT, name, entity_id(name, n)) for n in distinct.tolist()]
        owner = np.array([partition_of(key, UPDATES_PARTITIONS) for key in keys])
        columns.append(owner[place])
    return np.stack(columns, axis=1)


def readable_s(arrivals: Arrivals, owners: Ints, sights: Sequence[Sight]) -> Floats:
    """Return when each event was first seen in all of its states; infinity where never."""
    at_s = np.array([sight.at_s for sight in sights] + [math.inf])
    offsets = np.zeros((len(sights), UPDATES_PARTITIONS, EVENTS_PARTITIONS), np.int64)
    for row, sight in enumerate(sights):
        for p, marks in enumerate(next_offsets(sight.marks, "e")):
            offsets[row, p, : len(marks)] = marks
    found = np.zeros(arrivals.offset.size)
    for s in range(EVENTS_PARTITIONS):
        for p in range(UPDATES_PARTITIONS):
            mine = (arrivals.partition == s) & (owners == p).any(axis=1)
            seen = np.searchsorted(offsets[:, p, s], arrivals.offset[mine], side="right")
            found[mine] = np.maximum(found[mine], at_s[seen])
    return found


def figures(delays_s: Floats) -> tuple[float, float, float]:
    """Return p50, p99 and mean in milliseconds."""
    p50, p99 = np.quantile(delays_s, [0.5, 0.99], method="higher")
    return 1000 * float(p50), 1000 * float(p99), 1000 * float(delays_s.mean())


def run_at(servers: Servers, folder: Path, rate: float, seconds: float) -> tuple[Arrivals, Floats]:
    """Let arrivals come at a rate; return them and when each was readable."""
    with bench(servers, folder) as run:
        run.start()
        wait_opened(run)
        time.sleep(SETTLED_WORKER_S)
        home = run.deployment.folder
        plan = Plan(
            servers.kafka.address, run.topic("events.v1"), EVENTS_PARTITIONS, rate, seconds, 1
        )
        with (
            reading(home, servers.store.address, run.mark_keys()) as reader,
            producing(home, plan) as wait,
        ):
            arrivals: Arrivals = wait()
            ends = np.bincount(arrivals.partition, minlength=EVENTS_PARTITIONS).tolist()
            wait_until(
                lambda: committed(run.marks("e"), ends) == sum(ends),
                f"{sum(ends)} events are in the states",
                SETTLE_TIMEOUT_S,
            )
            sights = reader.end()
    return arrivals, readable_s(arrivals, owners_of(arrivals), sights)


def live_rate(servers: Servers, folder: Path, offered: float, seconds: float) -> float:
    """Return how many events a second become readable while more than that are sent.

    Producer, broker, worker, store and reader run side by side, as they do where the delay is
    measured: that is what the delay's load is half of. Counted after `WARM_S`, while events come.
    """
    arrivals, seen_s = run_at(servers, folder, offered, WARM_S + seconds)
    begin_s, end_s = arrivals.due_s[0] + WARM_S, arrivals.due_s[-1]
    return float(np.count_nonzero((seen_s >= begin_s) & (seen_s < end_s)) / (end_s - begin_s))


def measure_freshness(servers: Servers, folder: Path, quick: bool, rate: float) -> list[Row]:
    """Return the rows at 200/s and at half of the live saturated rate.

    Args:
        servers: Broker and store.
        folder: For what a run leaves.
        quick: Shorter runs.
        rate: Events/s of a worker alone, on a log that waits: more than can be kept up live.
    """
    seconds = QUICK_SECONDS if quick else SECONDS
    low = {"p50": (8.0, 4.0), "p99": (25.0, 10.0)}
    half = {"p99": (60.0, 25.0), "mean": (15.0, 6.0)}
    with servers.unpinned() as free:
        live = live_rate(free, folder, rate, LIVE_SECONDS)
        for _ in range(OFFERS):
            if live < KEPT_UP * rate:
                break
            rate *= 2  # it kept up: that was no saturation
            live = live_rate(free, folder, rate, LIVE_SECONDS)
        note = (
            f"{rate:.0f}/s were sent for {WARM_S + LIVE_SECONDS:g} s (what a worker takes from a "
            "log that waits, doubled while that is kept up), with producer, broker, store and "
            f"reader on the same cores; the first {WARM_S:g} s left out; {free.cores.words()}"
        )
        return [
            Row("freshness: live saturated rate", live, "events/s", note=note),
            *_rows(free, folder, LOW_RATE, seconds, "at 200/s", low),
            *_rows(free, folder, live / 2, seconds, "at half of the live saturated rate", half),
        ]


def _rows(
    servers: Servers,
    folder: Path,
    rate: float,
    seconds: float,
    when: str,
    bounds: dict[str, tuple[float, float]],
) -> list[Row]:
    arrivals, seen_s = run_at(servers, folder, rate, WARM_S + seconds)
    counts = arrivals.due_s >= arrivals.due_s[0] + WARM_S
    due_s = arrivals.due_s[counts]
    names = ("p50", "p99", "mean")
    fresh = dict(zip(names, figures(seen_s[counts] - due_s), strict=True))
    acked = dict(zip(names, figures(arrivals.acked_s[counts] - due_s), strict=True))
    ours = dict(zip(names, figures(seen_s[counts] - arrivals.acked_s[counts]), strict=True))
    sent = dict(zip(names, figures(arrivals.sent_s[counts] - due_s), strict=True))
    gathered = f"gathered for {1000 * GATHER_S:g} ms" if rate >= FAST_RATE else "linger 0"
    sending = f"handed to the client p99 {sent['p99']:.2f} ms after it was due"
    note = (
        f"{due_s.size} events at {rate:.0f}/s, Poisson arrivals, counted from when they were due; "
        f"{gathered}, acks=all; first {WARM_S:g} s left out; {servers.cores.words()}; {sending}"
    )
    rows = []
    for name in names:
        must, aim = bounds.get(name, (None, None))
        what = f"freshness {when}: event due → readable in Redis, {name}"
        rows.append(Row(what, fresh[name], "ms", must, aim, "lower", note))
    for name in names:
        what = f"freshness {when}: of this, due → acknowledged by the broker, {name}"
        rows.append(Row(what, acked[name], "ms", better="lower"))
    for name in names:
        what = f"freshness {when}: acknowledged → readable in Redis, {name}"
        rows.append(
            Row(what, ours[name], "ms", better="lower", note="may be seen before the ack arrives")
        )
    return rows
