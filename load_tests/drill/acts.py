"""What brings about what each alert is for, and what its page says to do about it."""

import os
from pathlib import Path

from load_tests.chaos.crew import LEARNERS, SCORER, WORKERS
from load_tests.chaos.load import AMOUNTS, LARGE_FROM
from load_tests.chaos.stage import Stage

SPOOL_MAX_BYTES = 16 * 1024**2
DISK_BYTES = 2 * 1024**3
DISK_LEFT = 0.05
MEMORY_USED, FILLER_BYTES = 0.84, 400 * 1024**2  # of what Redis may use
POISONED, BUSY, STREAM_BUSY, FULL = 0.05, 4.0, 8.0, 3.0
STORE_LATE_S = 0.5  # each way, as are the others
LOG_LATE_S = {SCORER: 0.5, **dict.fromkeys(LEARNERS, 1.5)}
LARGE = (LARGE_FROM, AMOUNTS[1])
SETTINGS = {
    "RISKBEAT_SPOOL_MAX_BYTES": str(SPOOL_MAX_BYTES),
    "RISKBEAT_FETCH_MAX_RECORDS": "100",  # what takes few at a time falls back when each is slow
    "RISKBEAT_STREAM_BATCH_EVENTS": "128",
}
FILLER = "filler"


def standby(stage: Stage) -> str:
    """Return which learner does not publish."""
    leader = stage.leader()
    return next(name for name in LEARNERS if name != leader)


def lose_standby(stage: Stage) -> None:
    """Kill the learner that stands by, for good."""
    name = standby(stage)
    stage.crew.kill(name)
    stage.crew.down.add(name)


def start_standby(stage: Stage) -> None:
    """Start it."""
    for name in LEARNERS:
        if name in stage.crew.down:
            stage.crew.down.discard(name)
            stage.crew.start(name)


def poison(stage: Stage) -> None:
    """Send unreadable records between the others."""
    stage.load.poison = POISONED


def no_poison(stage: Stage) -> None:
    """Stop that."""
    stage.load.poison = 0.0


def lose_store(stage: Stage) -> None:
    """Cut the scorer from Redis."""
    stage.wires[SCORER].cut()


def find_store(stage: Stage) -> None:
    """Mend that."""
    stage.wires[SCORER].mend()


def freeze(stage: Stage) -> None:
    """Freeze publishing, as an operator."""
    stage.crew.ask("model", "freeze", "--why", "a drill")


def thaw(stage: Stage) -> None:
    """Thaw it."""
    stage.crew.ask("model", "thaw", "--why", "the drill is over")


def fill_store(stage: Stage) -> None:
    """Lay something large into Redis, and bound it: what was there has room to grow."""
    stage.client.setrange(FILLER, FILLER_BYTES - 1, b"x")
    used = int(stage.client.info("memory")["used_memory"])
    stage.client.config_set("maxmemory", int(used / MEMORY_USED))


def free_store(stage: Stage) -> None:
    """Take it out, and the bound off."""
    stage.client.unlink(FILLER)
    stage.client.config_set("maxmemory", 0)


def data_folder(stage: Stage) -> Path:
    """Return where all of a deployment's data directories lie."""
    return Path(stage.crew.env["RISKBEAT_DATA_DIR"])


def fill_disk(stage: Stage) -> None:
    """Lay a file on the disk that leaves hardly anything."""
    folder = data_folder(stage)
    room = os.statvfs(folder)
    more = room.f_bavail * room.f_frsize - int(room.f_blocks * room.f_frsize * DISK_LEFT)
    with (folder / FILLER).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(more, 1))


def free_disk(stage: Stage) -> None:
    """Take it away."""
    (data_folder(stage) / FILLER).unlink()


def no_small_disk() -> str:
    """Return why there is no small disk under the data; empty if there is one."""
    return "" if os.geteuid() == 0 else "a small file system is mounted for it, which takes root"


def hold_up(stage: Stage) -> None:
    """Stream more, and let every process find what it waits for slow."""
    stage.load.stream_pace = STREAM_BUSY
    for name in WORKERS:
        stage.wires[name].slow(STORE_LATE_S)
    for name, late_s in LOG_LATE_S.items():
        stage.log_wires[name].slow(late_s)


def let_pass(stage: Stage) -> None:
    """Let everything pass."""
    stage.load.stream_pace = 1.0
    for name in WORKERS:
        stage.wires[name].mend()
    for name in LOG_LATE_S:
        stage.log_wires[name].mend()


def busy(stage: Stage) -> None:
    """Ask and stream more than the machine has time for."""
    stage.load.pace = BUSY


def not_busy(stage: Stage) -> None:
    """Ask and stream as usual."""
    stage.load.pace = 1.0


def lose_log(stage: Stage) -> None:
    """Cut the scorer from Kafka, and ask more."""
    stage.load.pace = FULL
    stage.log_wires[SCORER].cut()


def find_log(stage: Stage) -> None:
    """Mend that."""
    stage.load.pace = 1.0
    stage.log_wires[SCORER].mend()


def shift(stage: Stage) -> None:
    """Draw large amounts alone."""
    stage.load.amounts = LARGE


def shift_back(stage: Stage) -> None:
    """Draw all again, and more of them."""
    stage.load.amounts, stage.load.pace = AMOUNTS, BUSY
