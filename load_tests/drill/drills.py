"""What provokes each alert, what its page says to look at, and what it says to do."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from load_tests.chaos.crew import LEARNERS, SCORER, WORKERS
from load_tests.chaos.groups import can_bound, let_run, slow_down
from load_tests.chaos.load import AMOUNTS
from load_tests.chaos.stage import Stage

SPOOL_MAX_BYTES = 16 * 1024**2
DISK_BYTES = 2 * 1024**3
DISK_LEFT = 0.05
MEMORY_USED, FILLER_BYTES = 0.84, 400 * 1024**2  # of what Redis may use
POISONED, BUSY, STREAM_BUSY, FULL = 0.05, 4.0, 8.0, 3.0
SHARES = {SCORER: 0.15, **dict.fromkeys(LEARNERS, 0.03), **dict.fromkeys(WORKERS, 0.02)}
GROUP = "riskbeat-drill-"
LARGE = (80_000, 90_000)
COMMAND_TIMEOUT_S = 120.0
SETTINGS = {"RISKBEAT_SPOOL_MAX_BYTES": str(SPOOL_MAX_BYTES)}
FILLER = "filler"


def no_reason() -> str:
    """Return why a drill cannot be held on this machine: it can."""
    return ""


@dataclass(frozen=True)
class Drill:
    """One way in which things go wrong, and right again.

    Attributes:
        alerts: That must fire.
        causes: What is done, in words; for who reads the evidence.
        begin: Does it.
        looks: What the pages say to look at: queries of Prometheus, and commands.
        end: Does what the pages say to do.
        missing: Why it cannot be held here; empty if it can.
    """

    alerts: tuple[str, ...]
    causes: str
    begin: Callable[[Stage], None]
    looks: tuple[str, ...]
    end: Callable[[Stage], None]
    missing: Callable[[], str] = no_reason


def riskbeat(stage: Stage, *words: str) -> str:
    """Run a command as an operator would; return what it says.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "riskbeat", *words],
        env={**os.environ, **stage.crew.env},
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"riskbeat {' '.join(words)}: {done.stderr[-500:]}")
    return done.stdout


def standby(stage: Stage) -> str:
    """Return which learner does not publish."""
    leader = stage.leader()
    return next(name for name in LEARNERS if name != leader)


def _lose_standby(stage: Stage) -> None:
    name = standby(stage)
    stage.crew.kill(name)
    stage.crew.down.add(name)


def _start_standby(stage: Stage) -> None:
    for name in LEARNERS:
        if name in stage.crew.down:
            stage.crew.down.discard(name)
            stage.crew.start(name)


def _poison(stage: Stage) -> None:
    stage.load.poison = POISONED


def _no_poison(stage: Stage) -> None:
    stage.load.poison = 0.0


def _lose_store(stage: Stage) -> None:
    stage.wires[SCORER].cut()


def _find_store(stage: Stage) -> None:
    stage.wires[SCORER].mend()


def _freeze(stage: Stage) -> None:
    riskbeat(stage, "model", "freeze", "--why", "a drill")


def _thaw(stage: Stage) -> None:
    riskbeat(stage, "model", "thaw", "--why", "the drill is over")


def _fill_store(stage: Stage) -> None:
    """Lay something large into Redis, and bound it: what was there has room to grow."""
    stage.client.setrange(FILLER, FILLER_BYTES - 1, b"x")
    used = int(stage.client.info("memory")["used_memory"])
    stage.client.config_set("maxmemory", int(used / MEMORY_USED))


def _free_store(stage: Stage) -> None:
    stage.client.unlink(FILLER)
    stage.client.config_set("maxmemory", 0)


def data_folder(stage: Stage) -> Path:
    """Return where all of a deployment's data directories lie."""
    return Path(stage.crew.env["RISKBEAT_DATA_DIR"])


def _fill_disk(stage: Stage) -> None:
    folder = data_folder(stage)
    room = os.statvfs(folder)
    more = room.f_bavail * room.f_frsize - int(room.f_blocks * room.f_frsize * DISK_LEFT)
    with (folder / FILLER).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(more, 1))


def _free_disk(stage: Stage) -> None:
    (data_folder(stage) / FILLER).unlink()


def no_small_disk() -> str:
    """Return why there is no small disk under the data; empty if there is one."""
    return "" if os.geteuid() == 0 else "a small file system is mounted for it, which takes root"


def no_bound() -> str:
    """Return why no process can be slowed down; empty if one can."""
    return "" if can_bound("cpu") else "a control group is made for it, which takes root"


def _slow_down(stage: Stage) -> None:
    stage.load.stream_pace = STREAM_BUSY
    for name, share in SHARES.items():
        slow_down(f"{GROUP}{name}", stage.crew.running[name].pid, share)


def _let_run(stage: Stage) -> None:
    stage.load.stream_pace = 1.0
    for name in SHARES:
        let_run(f"{GROUP}{name}")


def _lose_log(stage: Stage) -> None:
    stage.load.pace = FULL
    stage.log_wires[SCORER].cut()


def _find_log(stage: Stage) -> None:
    stage.load.pace = 1.0
    stage.log_wires[SCORER].mend()


def _shift(stage: Stage) -> None:
    stage.load.amounts = LARGE


def _shift_back(stage: Stage) -> None:
    stage.load.amounts, stage.load.pace = AMOUNTS, BUSY


ROUNDS = (
    (
        Drill(
            ("RiskbeatDown",),
            "the learner that stands by is killed and not started again",
            _lose_standby,
            ('up{job="learn"}', "riskbeat model list"),
            _start_standby,
        ),
        Drill(
            ("RiskbeatDeadLettersRise",),
            f"unreadable records come with {POISONED:.0%} of events",
            _poison,
            (
                "sum by (code) (rate(riskbeat_rejects_total[5m]))",
                "sum by (code) (rate(riskbeat_learn_rejects_total[5m]))",
            ),
            _no_poison,
        ),
        Drill(
            ("RiskbeatVersionStands",),
            "`riskbeat model freeze`",
            _freeze,
            (
                "riskbeat_publishing_frozen",
                "riskbeat_publishing_cause",
                "riskbeat model list",
            ),
            _thaw,
        ),
        Drill(
            ("RiskbeatDiskFull",),
            f"a file is laid on the data's disk that leaves {DISK_LEFT:.0%}",
            _fill_disk,
            ("riskbeat_data_free_bytes", "riskbeat_join_bytes"),
            _free_disk,
            no_small_disk,
        ),
    ),
    (
        Drill(
            ("RiskbeatAnswersDegraded", "RiskbeatVersionsDiffer"),
            "the scorer is cut from Redis",
            _lose_store,
            (
                "sum by (stage, reason) (rate(riskbeat_stage_failures_total[1m]))",
                "riskbeat_breaker_open",
                'riskbeat_weights_version{job="serve"}',
                "GET /readyz",
            ),
            _find_store,
        ),
        Drill(
            ("RiskbeatRedisFull",),
            f"something large is laid into Redis: {MEMORY_USED:.0%} of `maxmemory` are used",
            _fill_store,
            ("riskbeat_redis_memory_bytes", "riskbeat store list"),
            _free_store,
        ),
    ),
    (
        Drill(
            (
                "RiskbeatLagGrowing",
                "RiskbeatFeaturesStale",
                "RiskbeatDecisionsBehind",
                "RiskbeatDecisionsSlow",
                "RiskbeatLearnerBehind",
            ),
            f"{STREAM_BUSY:g} times the stream, and hardly any processor time for any process",
            _slow_down,
            (
                "rate(riskbeat_events_total[1m])",
                "rate(riskbeat_updates_total[1m])",
                "riskbeat_lag_records",
                "riskbeat_stream_lag_records",
                'rate(riskbeat_decisions_total{door="stream"}[1m])',
                "riskbeat_learn_lag_records",
                "sum by (kind) (rate(riskbeat_redis_errors_total[1m]))",
            ),
            _let_run,
            no_bound,
        ),
    ),
    (
        Drill(
            ("RiskbeatSpoolFull", "RiskbeatErrors"),
            f"{FULL:g} times the load; the scorer is cut from Kafka, and its spool is small",
            _lose_log,
            (
                "riskbeat_spool_bytes",
                'sum by (route, status) (rate(riskbeat_http_requests_total{status=~"5.."}[1m]))',
                "GET /readyz",
            ),
            _find_log,
        ),
    ),
    (
        Drill(
            ("RiskbeatScoresShifted",),
            "every amount is a large one",
            _shift,
            (
                'riskbeat_weights_version{job="serve"}',
                "riskbeat_feature_psi",
                'riskbeat_drifts_found{stream="scores"}',
                "riskbeat model list",
            ),
            _shift_back,
        ),
    ),
)
"""Drills of one round are held together, the slow ones first."""
