"""`python -m load_tests.drill --out FILE`: every alert rings when it should, and its page helps.

The lab's deployment (`load_tests.chaos`) runs under load, watched by a real Prometheus with the
configuration and the alerts that are shipped. By rounds, what an alert is for is brought about; it
must fire. Then what its runbook page says to look at is looked at, and kept with the figures; what
the page says to do is done, and the alert must fall silent. With nothing broken none may fire.
"""

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import yaml

from load_tests.chaos.crew import PROCESSES, SCORER
from load_tests.chaos.servers import the_servers
from load_tests.chaos.stage import Stage, a_stage
from load_tests.deployment import LOOPBACK
from load_tests.drill.drills import DISK_BYTES, ROUNDS, SETTINGS, Drill, no_small_disk, riskbeat
from load_tests.processes import stopped_by_signals
from load_tests.report import Row, write
from tests.live.prometheus import DEPLOYED, Prometheus, a_prometheus

NAME = "drill"
QUICK = "RiskbeatDown"
QUIET_S = 60.0
FIRES_WITHIN_S, SILENT_WITHIN_S = 900.0, 900.0
LOOK_S = 1.0
ANSWER_CHARS = 2_000


@dataclass
class Heard:
    """What became of one alert.

    Attributes:
        fired_s: From the cause until it fired; None if it did not.
        silent_s: From the cure until it was silent; None if it was not.
        found: What its page says to look at → what was seen.
    """

    alert: str
    causes: str
    fired_s: float | None = None
    silent_s: float | None = None
    found: dict[str, str] = field(default_factory=dict)
    left_out: str = ""


def hold(stage: Stage, prometheus: Prometheus, drills: Sequence[Drill]) -> list[Heard]:
    """Hold the drills of one round; return what became of their alerts."""
    heard = {
        alert: Heard(alert, drill.causes, left_out=drill.missing())
        for drill in drills
        for alert in drill.alerts
    }
    held = [drill for drill in drills if not drill.missing()]
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
        return riskbeat(stage, *look.split()[1:])[:ANSWER_CHARS]
    if look.startswith("GET "):
        answer = stage.http.get(look.split()[1])
        return f"{answer.status_code} {answer.text}"[:ANSWER_CHARS]
    samples = prometheus.ask(look)
    lines = [f"{_labels(one['metric'])} {one['value'][1]}" for one in samples]
    return "\n".join(lines)[:ANSWER_CHARS]


def _labels(metric: dict[str, str]) -> str:
    return ",".join(f"{k}={v}" for k, v in sorted(metric.items()) if k != "__name__")


def shipped_alerts() -> set[str]:
    """Return the names of all alerts."""
    groups = yaml.safe_load((DEPLOYED / "alerts.yml").read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def rows_of(
    heard: Sequence[Heard], false_alarms: Sequence[str], asked: AbstractSet[str]
) -> list[Row]:
    """Return the figures; `asked` are the alerts that should have been drilled."""
    rows = []
    for one in heard:
        note = one.left_out or one.causes
        rows.append(Row(f"{one.alert}: fires after", one.fired_s, "s", None, None, "lower", note))
        rows.append(Row(f"{one.alert}: silent after the cure", one.silent_s, "s", better="lower"))
    held = [one for one in heard if not one.left_out]
    mute = [one.alert for one in held if one.fired_s is None]
    endless = [one.alert for one in held if one.silent_s is None]
    without = sorted(asked - {one.alert for one in held})
    return [
        *rows,
        Row("alerts that did not fire", len(mute), "alerts", 0, 0, "lower", ", ".join(mute)),
        Row("alerts that stayed", len(endless), "alerts", 0, 0, "lower", ", ".join(endless)),
        Row("alerts that fired with nothing broken", len(false_alarms), "alerts", 0, 0, "lower",
            ", ".join(false_alarms)),
        Row("alerts without a drill", len(without), "alerts", 0, 0, "lower", ", ".join(without)),
    ]  # fmt: skip


def drilled(
    folder: Path, only: set[str], say: Callable[[str], None]
) -> tuple[list[Heard], set[str]]:
    """Start a deployment and its Prometheus, and hold every drill, or those of some alerts.

    Returns:
        What became of every alert, and those that fired with nothing broken.

    Raises:
        Unavailable: No Prometheus is to be had here.
    """
    home = folder / "deployment"
    home.mkdir(parents=True)
    rounds = [[d for d in drills if only & set(d.alerts)] for drills in ROUNDS]
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
            quiet_s, rung = time.monotonic() + QUIET_S, set()
            while time.monotonic() < quiet_s:
                stage.crew.pause(LOOK_S)
                rung |= prometheus.firing()
            say(f"nothing is broken; firing: {sorted(rung) or 'none'}")
            return [one for drills in rounds for one in hold(stage, prometheus, drills)], rung


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
    """Run from the command line; return 1 when a must fails."""
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
    with stopped_by_signals(), tempfile.TemporaryDirectory(prefix="riskbeat-drill-") as made:
        try:
            heard, false_alarms = drilled((asked.keep or Path(made)).resolve(), only, say)
        except KeyboardInterrupt as how:
            print(f"stopped: {str(how) or 'Ctrl-C'}", file=sys.stderr)
            return 130
    good = write(NAME, rows_of(heard, sorted(false_alarms), only), asked.out)
    document = json.loads(asked.out.read_text())
    document["looked at"] = [asdict(one) for one in heard]
    asked.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
