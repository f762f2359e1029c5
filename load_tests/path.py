"""`python -m load_tests.path`: the whole path, from a log to its last decision.

The log is the Fraud Detection Handbook's where `RISKBEAT_HANDBOOK` names a copy, else a generated
one. Load, servers and processes share this machine's cores, so rates are given per CPU-second of
each process too; nothing is pinned.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from load_tests.deployment import WORKERS, Deployment, deployed
from load_tests.processes import wait_until
from load_tests.report import ROOT, Row, main

FLAT_OUT_TIMEOUT_S = 1_800.0
SETTLE_TIMEOUT_S = 120.0
PACED_EVENTS_PER_S = 400.0
GENERATED_EVENTS = 150_000
GENERATED_DAYS = 60.0
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Log:
    """A log to replay.

    Attributes:
        days: How much of it is sent flat out; `paced_days` follow at a steady rate.
    """

    path: Path
    mapping: str
    time_column: str
    days: float
    paced_days: float

    def day_of_rows(self) -> pl.Series:
        """Return each row's time as days since the first."""
        times = pl.scan_parquet(self.path).select(pl.col(self.time_column)).collect()
        instants = times[self.time_column]
        if instants.dtype == pl.String:
            instants = instants.str.to_datetime(time_zone="UTC")
        return (instants - instants.min()).dt.total_milliseconds() / DAY_MS

    def events_until(self, days: float) -> int:
        """Count the events of the first days."""
        return int((self.day_of_rows() < days).sum())

    def cut(self, path: Path) -> "Log":
        """Write the paced days to a file of their own."""
        day = self.day_of_rows()
        rows = (day >= self.days) & (day < self.days + self.paced_days)
        pl.read_parquet(self.path).filter(rows).write_parquet(path)
        return replace(self, path=path, days=self.paced_days + 1.0, paced_days=0.0)


def choose_log(deployment: Deployment, handbook: str | None, quick: bool) -> Log:
    """Return the Handbook's log, or a generated one."""
    if handbook:
        days = (3.0, 0.3) if quick else (60.0, 2.0)
        return Log(Path(handbook), "handbook", "TX_DATETIME", *days)
    path = deployment.folder / "generated.parquet"
    events, days_in_all = (40_000, 16.0) if quick else (GENERATED_EVENTS, GENERATED_DAYS)
    deployment.run(
        *("generate", str(path), "--events", str(events), "--days", str(days_in_all)),
        "--no-progress",
    )
    return Log(path, "generator", "event_time", days_in_all * 0.85, days_in_all * 0.1)


def replay(deployment: Deployment, log: Log, days: float, *more: str) -> float:
    """Replay up to `days` and wait for the last state and decision; return the seconds it took."""
    start = time.monotonic()
    process = deployment.processes.start(
        *("replay", str(log.path), "--mapping", log.mapping, "--days", str(days)),
        *("--no-tail", "--no-progress", *more),
    )
    expected = _decided(deployment) + log.events_until(days)

    def sent() -> bool:
        return process.popen.poll() is not None

    wait_until(sent, "the replay ends", FLAT_OUT_TIMEOUT_S)
    if process.popen.returncode:
        raise RuntimeError(f"replay failed: {process.log.read_text()[-2000:]}")
    del deployment.processes.running["replay"]
    wait_until(
        lambda: (
            _decided(deployment) >= expected
            and deployment.count("featurize", "riskbeat_events_total") >= expected
            and deployment.count("featurize", "riskbeat_lag_records") == 0
        ),
        f"{expected} events are decided and kept",
        SETTLE_TIMEOUT_S + FLAT_OUT_TIMEOUT_S,
    )
    return time.monotonic() - start


def _decided(deployment: Deployment) -> float:
    return deployment.count("serve", "riskbeat_decisions_total")


def quantile_ms(edges: Mapping[float, float], before: Mapping[float, float], q: float) -> float:
    """Return a quantile in milliseconds of what a histogram counted since `before`."""
    counts = {edge: count - before.get(edge, 0.0) for edge, count in sorted(edges.items())}
    total = max(counts.values(), default=0.0)
    low = below = 0.0
    for edge, count in counts.items():
        if total and count >= q * total:
            inside = count - below
            high = low if edge == float("inf") else edge
            return 1000 * (low + (high - low) * ((q * total - below) / inside if inside else 1.0))
        low, below = edge, count
    return float("nan")


def flat_out(deployment: Deployment, log: Log) -> list[Row]:
    """Send everything as fast as it goes, and count what became of it."""
    expected = log.events_until(log.days)
    before = deployment.cpu_s()
    seconds = replay(deployment, log, log.days)
    spent = {name: after - before[name] for name, after in deployment.cpu_s().items()}
    decided = _decided(deployment)
    kept = deployment.count("featurize", "riskbeat_events_total", outcome="accepted")
    degraded = deployment.count("serve", "riskbeat_degraded_decisions_total")
    rows = [
        Row("flat out: events", expected, "events", note=f"{log.mapping} log, {log.days:g} days"),
        Row("flat out: whole path", expected / seconds, "events/s", note=deployment.servers),
        Row("flat out: events not kept", expected - kept, "events", 0, 0, "lower"),
        Row("flat out: events not decided once", abs(expected - decided), "events", 0, 0, "lower"),
        Row("flat out: degraded decisions", degraded, "decisions", 0, 0, "lower"),
    ]
    for name in WORKERS:
        what = f"flat out: {name}, events per CPU-second"
        rows.append(Row(what, expected / spent[name], "events/CPU-s"))
    return rows


def paced(deployment: Deployment, log: Log) -> list[Row]:
    """Go on at a steady rate, and look at delays."""
    paced_log = log.cut(deployment.folder / "paced.parquet")
    seconds = paced_log.events_until(paced_log.days) / PACED_EVENTS_PER_S
    names = {"featurize": "riskbeat_event_freshness_seconds", "serve": "riskbeat_decision_seconds"}
    before = {name: deployment.histogram(name, metric) for name, metric in names.items()}
    replay(deployment, paced_log, paced_log.days, "--speed", str(log.paced_days * 86_400 / seconds))
    after = {name: deployment.histogram(name, metric) for name, metric in names.items()}
    fresh, took = (
        [quantile_ms(after[name], before[name], q) for q in (0.5, 0.99)] for name in names
    )
    at = f"at {PACED_EVENTS_PER_S:g} events/s"
    return [
        Row(f"{at}: event in the log → readable in Redis, p50", fresh[0], "ms", better="lower"),
        Row(f"{at}: event in the log → readable in Redis, p99", fresh[1], "ms", 60, 25, "lower"),
        Row(f"{at}: event in the log → decision in the log, p50", took[0], "ms", better="lower"),
        Row(f"{at}: event in the log → decision in the log, p99", took[1], "ms", better="lower"),
    ]


def measure(quick: bool) -> Sequence[Row]:
    """Deploy, replay flat out, then at a steady rate."""
    handbook = os.environ.get("RISKBEAT_HANDBOOK")
    spec = "features_handbook.yaml" if handbook else "features.yaml"
    with deployed({"RISKBEAT_SPEC_PATH": str(ROOT / spec)}) as deployment:
        log = choose_log(deployment, handbook, quick)
        return [*flat_out(deployment, log), *paced(deployment, log)]


if __name__ == "__main__":
    main("path", measure)
