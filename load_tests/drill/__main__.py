"""`python -m load_tests.drill --out FILE`: every alert rings when it should, and its page helps.

The lab's deployment (`load_tests.chaos`) runs under load, watched by a real Prometheus with the
configuration and the alerts that are shipped. By rounds, what an alert is for is brought about; it
must fire. Then what its runbook page says to look at is looked at, and kept with the figures; what
the page says to do is done, and the alert must fall silent. With nothing broken none may fire.
FILE is written after every round; a later run, of some alerts or all, adds to it.
"""

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from load_tests.chaos.crew import PROCESSES, SCORER
from load_tests.chaos.servers import the_servers
from load_tests.chaos.stage import Stage, a_stage
from load_tests.drill.acts import DISK_BYTES, SETTINGS, no_small_disk
from load_tests.drill.drills import ROUNDS, Drill
from load_tests.drill.record import NAME, Heard, Record, shipped_alerts
from load_tests.processes import stopped_by_signals
from riskbeat.ports import LOOPBACK
from tests.live.prometheus import Prometheus, a_prometheus

QUICK = "RiskbeatDown"
QUIET_S = 60.0
FIRES_WITHIN_S = SILENT_WITHIN_S = 1_200.0
LOOK_S = 1.0
ANSWER_CHARS = 2_000


def hold(
    stage: Stage, prometheus: Prometheus, drills: Sequence[Drill], watched_since_s: float
) -> list[Heard]:
    """Hold the drills of one round; return what became of their alerts.

    Args:
        stage: Where.
        prometheus: What watches it.
        drills: Of the round.
        watched_since_s: Monotonic seconds since when it does.
    """
    heard = {
        alert: Heard(alert, drill.causes, left_out=drill.missing())
        for drill in drills
        for alert in drill.alerts
    }
    held = [drill for drill in drills if not drill.missing()]
    history_s = max((drill.history_s for drill in held), default=0.0)
    stage.crew.pause(max(0.0, watched_since_s + history_s - time.monotonic()))
    waiting = {alert for drill in held for alert in drill.alerts}
    for alert, _ in _seen(stage, prometheus, waiting & prometheus.firing(), False, SILENT_WITHIN_S):
        stage.say(f"{alert}, of the round before, is silent")
    with ExitStack() as cures:
        begun_s = time.monotonic()
        for drill in held:
            stage.say(drill.causes)
            cures.callback(drill.end, stage)  # whatever happens, nothing stays broken
            drill.begin(stage)
        for alert, at_s in _seen(stage, prometheus, waiting, True, FIRES_WITHIN_S):
            heard[alert].fired_s = at_s - begun_s
            stage.say(f"{alert} fires after {at_s - begun_s:.0f} s")
        for drill in held:
            found = {look: look_at(stage, prometheus, look) for look in drill.looks}
            for alert in drill.alerts:
                heard[alert].found = found
        cured_s = time.monotonic()
    for alert, at_s in _seen(stage, prometheus, waiting, False, SILENT_WITHIN_S):
        heard[alert].silent_s = at_s - cured_s
        stage.say(f"{alert} is silent after {at_s - cured_s:.0f} s")
    return list(heard.values())


def _seen(
    stage: Stage, prometheus: Prometheus, alerts: set[str], firing: bool, within_s: float
) -> Iterator[tuple[str, float]]:
    """Yield each alert and when it fired, or was silent; as it does, for so long."""
    waiting, end_s = set(alerts), time.monotonic() + within_s
    while waiting and time.monotonic() < end_s:
        stage.crew.pause(LOOK_S)
        now = prometheus.firing()
        for alert in sorted(waiting & now if firing else waiting - now):
            waiting.discard(alert)
            yield alert, time.monotonic()
    if waiting:
        stage.say(f"not {'firing' if firing else 'silent'}: {', '.join(sorted(waiting))}")


def look_at(stage: Stage, prometheus: Prometheus, look: str) -> str:
    """Do what a page says to look at: a command, a page of the scorer, or a query."""
    if look.startswith("riskbeat "):
        return stage.crew.ask(*look.split()[1:])[:ANSWER_CHARS]
    if look.startswith("GET "):
        answer = stage.http.get(look.split()[1])
        return f"{answer.status_code} {answer.text}"[:ANSWER_CHARS]
    samples = prometheus.ask(look)
    lines = [f"{_labels(one['metric'])} {one['value'][1]}" for one in samples]
    return "\n".join(lines)[:ANSWER_CHARS]


def _labels(metric: dict[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(metric.items()) if k != "__name__")


def drilled(folder: Path, only: set[str], record: Record, say: Callable[[str], None]) -> None:
    """Start a deployment and its Prometheus, and hold the drills of some alerts, round by round.

    Args:
        folder: For data and logs.
        only: The alerts.
        record: Takes what becomes of them, and is kept after every round.
        say: Told what happens.

    Raises:
        Unavailable: No Prometheus is to be had here.
    """
    home = folder / "deployment"
    home.mkdir(parents=True)
    chosen = ([d for d in drills if only & set(d.alerts)] for drills in ROUNDS)
    rounds = [drills for drills in chosen if drills]
    with (
        _a_small_disk(home / "data"),
        the_servers(folder) as servers,
        a_stage(home, servers, 1, say, settings=SETTINGS) as stage,
    ):
        stage.load.poison = 0.0
        pages = {name: stage.crew.roles[name].env["RISKBEAT_METRICS_PORT"] for name in PROCESSES}
        pages[SCORER] = str(stage.http.base_url.port)
        targets: dict[str, list[str]] = {}
        for name in PROCESSES:
            job = stage.crew.roles[name].command[0]
            targets.setdefault(job, []).append(f"{LOOPBACK}:{pages[name]}")
        with a_prometheus(folder / "prometheus", targets) as prometheus:
            watched_since_s, rung = time.monotonic(), set(record.false_alarms)
            while time.monotonic() < watched_since_s + QUIET_S:
                stage.crew.pause(LOOK_S)
                rung |= prometheus.firing()
            record.false_alarms = sorted(rung)
            say(f"nothing is broken; firing: {', '.join(sorted(rung)) or 'none'}")
            for drills in rounds:
                for one in hold(stage, prometheus, drills, watched_since_s):
                    record.heard[one.alert] = one
                record.keep()


@contextmanager
def _a_small_disk(folder: Path) -> Iterator[None]:
    """Mount a small file system, where one may; else the folder is on the machine's own."""
    folder.mkdir(parents=True)
    if no_small_disk():
        yield
        return
    size = f"size={DISK_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main() -> int:
    """Run from the command line; return 1 when an alert that was asked for misbehaves."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{NAME}")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} alone")
    parser.add_argument("--only", help="of these alerts, by comma")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this folder")
    asked = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that is away is no news
    logging.getLogger("httpx").setLevel(logging.WARNING)
    start_s = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - start_s:7.1f} s  {words}", flush=True)

    chosen = asked.only or (QUICK if asked.quick else "")
    only = set(chosen.split(",")) if chosen else shipped_alerts()
    record = Record.read(asked.out)
    with stopped_by_signals(), tempfile.TemporaryDirectory(prefix="riskbeat-drill-") as made:
        try:
            drilled((asked.keep or Path(made)).resolve(), only, record, say)
        except KeyboardInterrupt as how:
            print(f"stopped: {str(how) or 'Ctrl-C'}", file=sys.stderr)
            return 130
    good = all(one.good for alert, one in record.heard.items() if alert in only)
    return 0 if good and not record.false_alarms else 1


if __name__ == "__main__":
    sys.exit(main())
