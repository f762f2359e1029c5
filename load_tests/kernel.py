"""`python -m load_tests.kernel`: the window kernel alone, in CPU time of its thread.

No network, no log: states in, states or vectors out. Every figure is the best of several rounds,
which is what the machine does when nothing else asks for it; what a call costs in Python is in it.
"""

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from features.event import Amount, Event
from features.spec import Spec
from features.update import EntityUpdates, updates_of_events
from features.vector import derive_many
from features.window import apply_many, evaluate_many, warm_up
from load_tests.report import ROOT, Row, main

ENTITIES = ("card", "merchant", "device", "ip")
AGGREGATES = ("count", "sum", "mean", "min", "max")
GOAL_WINDOWS = "1m, 10m, 1h, 6h, 1d, 7d"
LONG_WINDOWS = "1m, 10m, 1h, 6h, 1d, 30d"
PAYMENTS = 60
DAYS = 30
CARDS = 64
START = datetime(2026, 3, 1, tzinfo=UTC)
COMPILE = (
    "import time; from pathlib import Path; from features.spec import Spec;"
    "from features.window import warm_up; spec = Spec.load(Path('features.yaml'));"
    "begun = time.process_time(); warm_up(spec); print(time.process_time() - begun)"
)


def goal_spec(windows: str) -> Spec:
    """Return the goal's spec: four entities, six windows, five aggregates."""
    lines = ["money: {base: EUR, rates_version: '1', rates: {EUR: '1'}}"]
    lines += ["event_types: {card_payment: {primary: card}}", "entities:"]
    for entity in ENTITIES:
        lines += [f"  {entity}:", *(f"    {name}: [{windows}]" for name in AGGREGATES)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return Spec.load(path)


def payments_of(card: int, payments: int, days: float = DAYS) -> list[Event]:
    """Return a card's payments at random instants: 15 merchants, 2 devices, 20 addresses."""
    generator = np.random.default_rng(card)
    seconds = np.sort(generator.uniform(0, days * 86_400, payments))
    amounts = np.exp(generator.normal(8, 1, payments))
    return [
        Event(
            event_type="card_payment",
            event_id=f"pay_{card}_{i}",
            event_time=START + timedelta(milliseconds=int(at * 1000)),
            entities={
                "card": f"tok_{card}",
                "merchant": f"m_{generator.integers(15)}",
                "device": f"d_{generator.integers(2)}",
                "ip": f"203.0.113.{generator.integers(20)}",
            },
            amount=Amount(int(amount), "EUR"),
            attributes={"country": "FR", "channel": "ecom", "mcc": "5732"},
        )
        for i, (at, amount) in enumerate(zip(seconds.tolist(), amounts.tolist(), strict=True))
    ]


def state_of(spec: Spec, events: Sequence[Event], entity: int) -> bytes:
    """Return the state of one entity to which all of these events belong."""
    rows = rows_of(spec, events, entity)
    return apply_many(spec, [b""], np.zeros(len(rows), dtype=np.int64), rows)[0]


def rows_of(spec: Spec, events: Sequence[Event], entity: int) -> EntityUpdates:
    """Return the rows of one kind of entity."""
    rows = updates_of_events(spec, events)
    return rows.take(np.flatnonzero(rows.entity == entity))


def cpu_us(call: Callable[[], object], items: int, rounds: int) -> float:
    """Return CPU microseconds of this thread for each item, in the best of the rounds."""
    best = math.inf
    for _ in range(rounds):
        begun = time.thread_time()
        call()
        best = min(best, time.thread_time() - begun)
    return best / items * 1e6


def measure_entity(spec: Spec, windows: str, rounds: int, states: int) -> list[Row]:
    """Apply one newest row to each of many cards, and evaluate each, in batches."""
    cards = [state_of(spec, payments_of(n, PAYMENTS), 0) for n in range(CARDS)]
    blobs = [cards[n % CARDS] for n in range(states)]
    last = START + timedelta(days=DAYS)
    asking = [
        replace_time(payments_of(n % CARDS, 1)[0], f"new_{n}", last + timedelta(milliseconds=n))
        for n in range(states)
    ]
    rows = rows_of(spec, asking, 0)
    slot = np.arange(states)
    applied = cpu_us(lambda: apply_many(spec, blobs, slot, rows), states, rounds)
    told = cpu_us(lambda: evaluate_many(spec, 0, blobs, rows.time_ms, rows.id), states, rounds)
    what = f"a card with {PAYMENTS} payments in {DAYS} days, windows {windows}"
    size = float(np.mean([len(blob) for blob in cards]))
    note = f"apply {applied:.2f}, evaluate {told:.2f}; batches of {states}"
    return [
        Row(f"apply + evaluate, {what}", applied + told, "µs/entity", 3, 1.5, "lower", note),
        Row(f"state of {what}", size, "B", 2048, 600, "lower"),
    ]


def replace_time(event: Event, event_id: str, at: datetime) -> Event:
    """Return the event under another id, at another time."""
    return Event(
        event_type=event.event_type,
        event_id=event_id,
        event_time=at,
        entities=event.entities,
        amount=event.amount,
        attributes=event.attributes,
    )


def measure_vector(spec: Spec, name: str, rounds: int, events: int) -> list[Row]:
    """Make vectors from the states of a card, a merchant, a device and an address."""
    history = payments_of(3, PAYMENTS)
    names = [entity.name for entity in spec.entities]
    state = {name: state_of(spec, history, i) for i, name in enumerate(names)}
    last = START + timedelta(days=DAYS)
    asking = [
        replace_time(history[0], f"new_{n}", last + timedelta(seconds=n)) for n in range(events)
    ]
    states = [state] * events
    together = updates_of_events(spec, asking)
    apart = [updates_of_events(spec, [event]) for event in asking]

    def one_by_one() -> None:
        for event, rows in zip(asking, apart, strict=True):
            derive_many(spec, [event], [state], None, rows)

    def all_of_it() -> None:
        for event in asking:
            derive_many(spec, [event], [state])

    what = f"{len(names)} states → vector of {spec.n_features}, {name}"
    batch = cpu_us(lambda: derive_many(spec, asking, states, None, together), events, rounds)
    single = cpu_us(one_by_one, events, rounds)
    whole = cpu_us(all_of_it, events, rounds)
    return [
        Row(f"{what}, in a batch of {events}", batch, "µs/event", 25, 12, "lower"),
        Row(f"{what}, one at a time", single, "µs/event", 25, 12, "lower"),
        Row(f"{what}, one at a time, its rows too", whole, "µs/event", better="lower"),
    ]


def measure_burst(spec: Spec, rounds: int) -> list[Row]:
    """Apply many rows to one entity: the cost of each must not grow with their number."""
    costs = {}
    for number in (1_000, 20_000):
        rows = rows_of(spec, payments_of(1, number), 0)
        slot = np.zeros(number, dtype=np.int64)
        costs[number] = cpu_us(partial(apply_many, spec, [b""], slot, rows), number, rounds)
    note = ", ".join(f"{cost:.3f} µs each of {number}" for number, cost in costs.items())
    ratio = costs[20_000] / costs[1_000]
    return [
        Row("cost of a row, 20 000 of one entity ÷ 1 000", ratio, "times", 2, 1.5, "lower", note)
    ]


def measure_compilation() -> list[Row]:
    """Compile everything in a process of its own, with an empty cache."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", COMPILE],
            cwd=ROOT,
            env=os.environ | {"NUMBA_CACHE_DIR": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    return [Row("compile the kernel, once for each state of its sources", float(done.stdout),
                "CPU-s", None, 18, "lower")]  # fmt: skip


def measure(quick: bool) -> list[Row]:
    """Return all rows."""
    rounds, states, events = (7, 1024, 300) if quick else (25, 4096, 1000)
    rows = []
    goal = goal_spec(GOAL_WINDOWS)
    shipped = Spec.load(ROOT / "features.yaml")
    warm_up(goal)
    for spec, windows in ((goal, GOAL_WINDOWS), (goal_spec(LONG_WINDOWS), LONG_WINDOWS)):
        rows += measure_entity(spec, windows, rounds, states)
    held = [replace(row, must=None, aim=None) for row in measure_entity(
        shipped, "of the shipped spec", rounds, states)]  # fmt: skip
    rows += [held[0], replace(held[1], must=2048, aim=600)]
    rows += measure_vector(goal, "goal's spec", rounds, events)
    rows += measure_vector(shipped, "shipped spec", rounds, events)
    rows += measure_burst(goal, rounds)
    return rows if quick else rows + measure_compilation()


if __name__ == "__main__":
    main("kernel", measure)
