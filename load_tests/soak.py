"""`python -m load_tests.soak --minutes N --out FILE`: the whole path at half of what it can take.

The deployment is that of the lab (`load_tests.chaos`): every process with its standby, and nothing
is broken. What was seen is remembered for minutes, not for the hour that is shipped: what a worker
holds of it reaches its size within the settling, and what still grows is what should not. The load
is raised until answers come late or are refused; then half of that flows, while resident memory,
open files, the p99 of answers and what waits in the log are looked at. Growth is the least-squares
slope over the run's length, as a share of the mean, after the settling. In the end everything is
held against the log, as after a fault.
"""

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from numpy.typing import NDArray

from load_tests.chaos.check import judge
from load_tests.chaos.crew import LEARNERS, PROCESSES, SCORER, WORKERS
from load_tests.chaos.roles import SPEC
from load_tests.chaos.servers import the_servers
from load_tests.chaos.stage import STEADY_S, Stage, a_stage
from load_tests.processes import page, stopped_by_signals
from load_tests.report import Row, write
from load_tests.soak_plot import draw
from riskbeat.ports import LOOPBACK

NAME = "soak"
MINUTES, QUICK_MINUTES = 30.0, 3.0
RAISE, PACE_MAX, HOLD_S = 1.4, 40.0, 8.0
SAMPLE_S = 5.0
SETTLING = 0.2
REMEMBERED, REMEMBERED_HERE = "dedup_horizon: 1h", "dedup_horizon: 4m"
MUST_GROWTH, MUST_FILES, MUST_P99 = 0.10, 5, 1.5
LAGS = {
    **dict.fromkeys(WORKERS, "riskbeat_lag_records"),
    **dict.fromkeys(LEARNERS, "riskbeat_learn_lag_records"),
    SCORER: "riskbeat_stream_lag_records",
}


@dataclass(frozen=True)
class Sample:
    """One look at everything.

    Attributes:
        at_s: Since the soak began.
        rss_bytes: Process → resident bytes, its children's included.
        files: Process → open files.
        lag: Records that wait in the log, of all steps.
        p99_s: Of the answers to what was asked since the last look.
    """

    at_s: float
    rss_bytes: dict[str, int]
    files: dict[str, int]
    lag: float
    p99_s: float


def saturate(stage: Stage) -> float:
    """Raise the load until it is too much; return the last pace that was held."""
    pace = held = stage.load.pace
    while pace < PACE_MAX:
        stage.load.pace = pace
        stage.crew.pause(HOLD_S + STEADY_S)
        if not stage.is_steady():
            break
        stage.say(f"holds {pace:.1f} times the lab's load")
        held, pace = pace, pace * RAISE
    stage.load.pace = held / 2
    stage.crew.pause(HOLD_S + STEADY_S)
    stage.steady_s = time.monotonic()  # what came late before was asked for
    return held


def watch(stage: Stage, minutes: float) -> Iterator[Sample]:
    """Look at everything, again and again."""
    begun_s = last_s = time.monotonic()
    callers_port = stage.http.base_url.port
    while last_s < begun_s + minutes * 60:
        stage.crew.pause(SAMPLE_S)
        now_s = time.monotonic()
        took_s = [
            one.took_s
            for one in list(stage.load.told.answers.values())
            if last_s <= one.asked_at_s + one.took_s < now_s
        ]
        rss, files = {}, {}
        for name in PROCESSES:
            rss[name], files[name] = _held_by(stage.crew.running[name].pid, callers_port)
        p99_s = float(np.quantile(took_s, 0.99)) if took_s else float("nan")
        yield Sample(now_s - begun_s, rss, files, _lag(stage), p99_s)
        last_s = now_s


def a_spec(folder: Path) -> Path:
    """Write the shipped spec, but for how long what was seen is remembered."""
    shipped = SPEC.read_text()
    if REMEMBERED not in shipped:
        raise ValueError(f"{SPEC} has no `{REMEMBERED}`")
    path = folder / SPEC.name
    path.write_text(shipped.replace(REMEMBERED, REMEMBERED_HERE))
    return path


def _held_by(pid: int, callers_port: int | None) -> tuple[int, int]:
    """Return resident bytes and open files of a process and its children.

    Connections that callers keep open are theirs: how many there are says how they ask.
    """
    rss_bytes = files = 0
    root = psutil.Process(pid)
    for one in (root, *root.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            rss_bytes += one.memory_info().rss
            files += one.num_fds() - sum(
                end.laddr.port == callers_port and end.status == psutil.CONN_ESTABLISHED
                for end in one.net_connections("tcp")
            )
    return rss_bytes, files


def _lag(stage: Stage) -> float:
    total = 0.0
    for name, metric in LAGS.items():
        port = stage.http.base_url.port if name == SCORER else _page_port(stage, name)
        for line in page(f"http://{LOOPBACK}:{port}/metrics").splitlines():
            if line.startswith(metric):
                total += float(line.rsplit(" ", 1)[1])
    return total


def _page_port(stage: Stage, name: str) -> str:
    return stage.crew.roles[name].env["RISKBEAT_METRICS_PORT"]


def growth(at_s: NDArray[np.float64], found: NDArray[np.float64]) -> tuple[float, float]:
    """Return the growth over the run as a share of the mean, and half of its 95 % interval."""
    kept = at_s >= at_s[-1] * SETTLING
    x, y = at_s[kept], found[kept]
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    scale = at_s[-1] / max(float(y.mean()), 1e-12)
    return float(slope * scale), float(1.96 * np.sqrt(covariance[0, 0]) * scale)


def rows_of(samples: list[Sample], pace: float, per_s: float) -> list[Row]:
    """Return what grew, and by how much."""
    at_s = np.array([one.at_s for one in samples])
    minutes = at_s[-1] / 60
    rows = [
        Row("soak: minutes", minutes, "min", MINUTES, note=f"{len(samples)} looks"),
        Row("soak: load, half of saturation", per_s, "events/s", note=f"half of pace {pace:.1f}"),
    ]
    for name in PROCESSES:
        rss = np.array([one.rss_bytes[name] for one in samples], np.float64)
        share, sure = growth(at_s, rss)
        note = f"± {sure:.3f}; from {rss[0] / 2**20:.0f} to {rss[-1] / 2**20:.0f} MiB"
        what = f"{name}: resident memory, growth"
        rows.append(Row(what, share, "of the mean", MUST_GROWTH, 0.02, "lower", note))
        files = np.array([one.files[name] for one in samples])
        settled = files[int(len(files) * SETTLING) :]
        more = int(np.median(settled[-5:]) - np.median(settled[:5]))
        what = f"{name}: open files, more at the end"
        rows.append(Row(what, more, "files", MUST_FILES, 0, "lower", f"{files[-1]} in the end"))
    p99 = np.array([one.p99_s for one in samples]) * 1000
    first, last = (float(np.nanmedian(part)) for part in np.array_split(p99, 3)[::2])
    note = f"medians of p99 by {SAMPLE_S:g} s: {first:.0f} and {last:.0f} ms"
    rows.append(
        Row(
            "p99 in the last third by the first",
            last / first,
            "times",
            MUST_P99,
            1.1,
            "lower",
            note,
        )
    )
    lag = np.array([one.lag for one in samples])
    share, sure = growth(at_s, lag)
    note = f"± {sure:.2f}; median {np.median(lag):.0f}, most {lag.max():.0f} records"
    rows.append(Row("records that wait: growth", share, "of the mean", better="lower", note=note))
    return rows


def main() -> int:
    """Run from the command line; return 1 when a must fails."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{NAME}")
    parser.add_argument("--minutes", type=float, help=f"default {MINUTES:g}")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MINUTES:g} minutes")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--plot", type=Path, help="the picture to draw; its ending says the form")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this folder")
    asked = parser.parse_args()
    minutes = asked.minutes or (QUICK_MINUTES if asked.quick else MINUTES)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    begun_s = time.monotonic()

    def say(words: str) -> None:
        print(f"  {time.monotonic() - begun_s:7.1f} s  {words}", flush=True)

    with stopped_by_signals(), tempfile.TemporaryDirectory(prefix="riskbeat-soak-") as made:
        folder = asked.keep or Path(made)
        with the_servers(folder) as servers:
            home = folder / "deployment"
            home.mkdir(parents=True)
            settings = {"RISKBEAT_SPEC_PATH": str(a_spec(home))}
            with a_stage(home, servers, 1, say, settings=settings) as stage:
                pace = saturate(stage)
                say(f"soaks at {stage.load.pace:.1f} times the lab's load")
                asked_before = stage.load.begun
                samples = list(watch(stage, minutes))
                per_s = (stage.load.begun - asked_before) / samples[-1].at_s
                found = judge(stage)
    rows = rows_of(samples, pace, per_s)
    for what, count in found.wrong.items():
        rows.append(Row(what, count, "", 0, 0, "lower", found.words.get(what, "")))
    if asked.plot:
        draw(samples, asked.plot)
    return 0 if write(NAME, rows, asked.out) else 1


if __name__ == "__main__":
    sys.exit(main())
