"""Kafka → Redis at saturation: events per CPU-second of the worker, on a log that waits."""

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from load_tests.features_bench import EVENTS_PARTITIONS, START_TIMEOUT_S, Bench, bench
from load_tests.features_log import Log, fill, zipf_log
from load_tests.features_servers import Servers
from load_tests.report import Row

EVENTS, QUICK_EVENTS = 200_000, 40_000
RUNS, QUICK_RUNS = 3, 1
RUN_TIMEOUT_S = 120.0  # of one run, beyond the worker's start
METRIC_SETTLE_S = 3.0
LOOK_AGAIN_S = 0.2


@dataclass(frozen=True)
class Saturated:
    """One run.

    Attributes:
        events: Of the log.
        committed: Of these, in the states when the run ended.
        accepted: What the worker itself counted.
        cpu_s: Of the worker, from all partitions opened to the last commit.
        events_after_first: Committed after the first commit was seen.
        cpu_after_first_s: Of the worker, from there on.
        wall_s: From all partitions opened to the last commit.
        servers_cpu_s: Of the servers in about the same time.
        rss_bytes: Of the worker at the end.
    """

    events: int
    committed: int
    accepted: float
    cpu_s: float
    events_after_first: int
    cpu_after_first_s: float
    wall_s: float
    servers_cpu_s: dict[str, float]
    rss_bytes: int

    @property
    def per_cpu_s(self) -> float:
        return self.committed / self.cpu_s

    @property
    def per_s(self) -> float:
        return self.committed / self.wall_s


@dataclass(frozen=True)
class Rates:
    """A saturated worker's events, by its CPU-second and by second of wall time."""

    per_cpu_s: float
    per_s: float


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def saturate(run: Bench, log: Log, timeout_s: float = RUN_TIMEOUT_S) -> Saturated:
    """Fill the topic, start a worker, and watch it until all is committed."""
    ends = fill(run.servers.kafka.address, run.topic("events.v1"), log, EVENTS_PARTITIONS)
    process = run.start()
    before = run.servers.cpu_s()
    looks = run.looks(process, ends, "e", START_TIMEOUT_S + timeout_s)
    spent = {name: cpu - before[name] for name, cpu in run.servers.cpu_s().items()}
    opened = next((look for look in looks if look.opened), looks[-1])
    first = next((look for look in looks if look.committed), looks[-1])
    last = looks[-1]
    deadline = time.monotonic() + METRIC_SETTLE_S
    while run.accepted() < last.committed and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_S)
    process.look()
    return Saturated(
        events=len(log),
        committed=last.committed,
        accepted=run.accepted(),
        cpu_s=max(last.cpu_s - opened.cpu_s, 1e-9),
        events_after_first=last.committed - first.committed,
        cpu_after_first_s=last.cpu_s - first.cpu_s,
        wall_s=max(last.at_s - opened.at_s, 1e-9),
        servers_cpu_s=spent,
        rss_bytes=process.rss_bytes,
    )


def measure_saturation(servers: Servers, folder: Path, quick: bool) -> tuple[list[Row], Rates]:
    """Return the rows, and the median rates."""
    found = []
    for _ in range(QUICK_RUNS if quick else RUNS):
        log = zipf_log(QUICK_EVENTS if quick else EVENTS, now_ms())
        with bench(servers, folder) as run:
            found.append(saturate(run, log))
    rates = Rates(
        statistics.median(each.per_cpu_s for each in found),
        statistics.median(each.per_s for each in found),
    )
    return rows_of(found, servers.words), rates


def rows_of(found: list[Saturated], words: str) -> list[Row]:
    """Turn runs into rows."""
    each = ", ".join(f"{one.per_cpu_s:.0f}" for one in found)
    rate = statistics.median(one.per_cpu_s for one in found)
    after_first = statistics.median(
        one.events_after_first / max(one.cpu_after_first_s, 1e-9) for one in found
    )
    lost = sum(one.events - one.committed for one in found)
    uncounted = sum(abs(one.committed - one.accepted) for one in found)
    what = "saturation: Kafka → Redis, 4 entities x 6 windows x 5 aggregates"
    note = (
        f"median of {len(found)} runs ({each}) of {found[0].events} events over 48 h, Zipf 1/k; "
        "CPU from all partitions opened to the last commit: start-up and compilation are not in "
        f"it, the first batch is; {words}"
    )
    rows = [
        Row(what, rate, "events/CPU-s", 30_000, 60_000, note=note),
        Row(
            "saturation: the same from the first commit on",
            after_first,
            "events/CPU-s",
            note="without the first batches, part of whose work lies before their commit",
        ),
        Row(
            "saturation: events per second of wall time",
            statistics.median(one.per_s for one in found),
            "events/s",
        ),
        Row("saturation: events not committed within the bound", lost, "events", 0, 0, "lower"),
        Row("saturation: events that the worker did not count", uncounted, "events", 0, 0, "lower"),
        Row(
            "saturation: worker, resident memory at the end",
            statistics.median(one.rss_bytes for one in found) / 2**20,
            "MiB",
            better="lower",
        ),
    ]
    for name in found[0].servers_cpu_s:
        spent = statistics.median(one.servers_cpu_s[name] for one in found)
        note = f"for {found[0].events} events, from the worker's start to its last commit"
        rows.append(Row(f"saturation: {name}", spent, "CPU-s", better="lower", note=note))
    return rows
