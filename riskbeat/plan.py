"""a load and an estate → how many of what: arithmetic on what was measured (`plan_measured`).

Nothing is asked of a running system. Each item names the figures that it rests on.
"""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from riskbeat.plan_measured import (
    COPIES,
    FEATURIZE,
    FRESH_BUSY_MS,
    FRESH_QUIET_MS,
    FRESH_SATURATED,
    KEY_OVERHEAD,
    LABEL_S,
    LEARN,
    QUIET_EVENTS_PER_S,
    RECORD_BYTES,
    SERVE,
    SERVE_HTTP,
    STATE,
    USED,
    VERSION_BYTES,
    WORKER_MIB,
    Assumed,
    Measured,
)

PARTITIONS_OF_WORKER: Final = 2
"""So that a worker more takes some over, and none stands idle."""
PARTITIONS_MIN: Final = 4
GIB: Final = 2**30


class Load(NamedTuple):
    """What is asked for.

    Attributes:
        entities: That are remembered at once, of all kinds together.
        latency_ms: Event → readable feature, at the 99th percentile; None for any.
        retention_s: Topic → how long it keeps records.
        versions_per_s: Published while labels come.
    """

    events_per_s: float
    entities: int
    latency_ms: float | None
    retention_s: dict[str, float]
    versions_per_s: float
    replication: int


class Item(NamedTuple):
    """One line of a plan.

    Attributes:
        value: None where no measurement allows one; `note` says why.
        rests_on: What it was worked out from.
    """

    what: str
    value: float | None
    unit: str
    rests_on: Sequence[Measured | Assumed]
    note: str = ""


def plan(load: Load) -> list[Item]:
    """Return what a load needs."""
    workers = _workers(load)
    scorers = _needed(load.events_per_s, SERVE)
    partitions = _partitions(int(workers.value or 0))
    return [
        workers,
        Item("featurize: memory of a worker", WORKER_MIB.value, "MiB", [WORKER_MIB]),
        Item("updates partitions", partitions, "partitions", workers.rests_on),
        Item(
            "events, decisions and labels partitions",
            _partitions(max(int(workers.value or 0), scorers)),
            "partitions",
            [FEATURIZE, SERVE, USED],
        ),
        Item("serve: processes", scorers, "processes", [SERVE, USED], "stream door, full records"),
        Item(
            "serve: worker processes, all over HTTP",
            _needed(load.events_per_s, SERVE_HTTP),
            "processes",
            [SERVE_HTTP, USED],
            "RISKBEAT_HTTP_WORKERS, over all machines; on the slower of our machines",
        ),
        _learner(load),
        *_redis(load),
        *_disk(load),
    ]


def _workers(load: Load) -> Item:
    """Return how many workers keep up, and are as fresh as is asked."""
    what, count = "featurize: workers", _needed(load.events_per_s, FEATURIZE)
    asked_ms = load.latency_ms
    if asked_ms is None:
        return Item(what, count, "processes", [FEATURIZE, USED])
    if asked_ms < FRESH_QUIET_MS.value:
        note = f"no measurement is as fresh as {asked_ms:g} ms at the 99th percentile"
        return Item(what, None, "processes", [FRESH_QUIET_MS], note)
    rests: list[Measured | Assumed] = [
        FEATURIZE,
        USED,
        FRESH_QUIET_MS,
        FRESH_BUSY_MS,
        FRESH_SATURATED,
    ]
    rate = FRESH_SATURATED.value / 2 if asked_ms >= FRESH_BUSY_MS.value else QUIET_EVENTS_PER_S
    note = f"one worker was as fresh at {rate:,.0f} events/s, of a spec of 4 x 6 x 5 features"
    return Item(what, max(count, math.ceil(load.events_per_s / rate)), "processes", rests, note)


def _learner(load: Load) -> Item:
    headroom = LEARN.value / load.events_per_s
    note = "one learner; a label is served within "
    note += f"{LABEL_S.value:g} s (p99, at 100 payments/s)"
    if headroom < 1:
        note = "one learner does not keep up, and there is one of a deployment"
    return Item(
        "learn: rate that it keeps up with, over yours", headroom, "times", [LEARN, LABEL_S], note
    )


def _redis(load: Load) -> list[Item]:
    held = load.entities * (STATE.value + KEY_OVERHEAD.value) / GIB
    note = "every kind of entity is taken for a card with 60 payments in 30 days"
    return [
        Item("Redis: states", held, "GiB", [STATE, KEY_OVERHEAD], note),
        Item("Redis: memory to give it", held * COPIES.value, "GiB", [STATE, KEY_OVERHEAD, COPIES]),
    ]


def _disk(load: Load) -> list[Item]:
    items = []
    for name, size in RECORD_BYTES.items():
        kept = load.events_per_s * load.retention_s[name] * size.value * load.replication / GIB
        items.append(Item(f"Kafka: {name}", kept, "GiB", [size], _kept(load, name)))
    rate, name = load.versions_per_s, "weights.v1"
    kept = rate * load.retention_s[name] * VERSION_BYTES.value * load.replication / GIB
    return [*items, Item(f"Kafka: {name}", kept, "GiB", [VERSION_BYTES], _kept(load, name))]


def _kept(load: Load, name: str) -> str:
    days = load.retention_s[name] / 86_400
    return f"{days:g} d, {load.replication} replica{'s' if load.replication > 1 else ''}"


def _needed(events_per_s: float, rate: Measured) -> int:
    return math.ceil(events_per_s / (rate.value * USED.value))


def _partitions(processes: int) -> int:
    return max(PARTITIONS_MIN, PARTITIONS_OF_WORKER * processes)
