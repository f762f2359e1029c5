"""a process → killed by the kernel, for want of memory.

It is put into a memory control group of its own that may hold hardly anything more; what it holds
already stays with the group that it came from. The next pages that it touches are too many, and the
kernel ends it, as it ends a container beyond its limit. Both versions of control groups will do;
writing to them takes root, or a group that was delegated.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

CONTROL_GROUPS = Path("/sys/fs/cgroup")
MORE_BYTES = 4096  # with more, one that touches little new went slower and lived on for a minute
KILLED_WITHIN_S = 20.0
POLL_S = 0.05
LIMITS = "memory.limit_in_bytes", "memory.max"  # of version 1, of version 2
EVENTS = "memory.oom_control", "memory.events"
NO_KILL = "oom_kill 0"


def own_group(proc: Path = Path("/proc/self/cgroup"), root: Path = CONTROL_GROUPS) -> Path | None:
    """Return the folder of the memory group that this process is in; None if there is none."""
    for line in proc.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return root / "memory" / path.lstrip("/")
    whole = root / "cgroup.controllers"  # version 2 alone has one tree for all controllers
    return root / path.lstrip("/") if whole.exists() else None


def can_starve() -> bool:
    """Whether this machine lets us make such groups."""
    try:
        with _a_group("riskbeat-lab-tried") as group:
            return any((group / name).exists() for name in LIMITS)
    except OSError:
        return False


def starve(pid: int) -> None:
    """Let the kernel kill a process for want of memory; return when it is dead.

    Raises:
        TimeoutError: It lives on, as before.
        RuntimeError: It ended of something else.
        OSError: No control group may be made here.
    """
    with _a_group(f"riskbeat-lab-{pid}") as group:
        limit = next(group / name for name in LIMITS if (group / name).exists())
        limit.write_text(str(MORE_BYTES))
        (group / "cgroup.procs").write_text(str(pid))
        end_s = time.monotonic() + KILLED_WITHIN_S
        while _lives(pid):
            if time.monotonic() > end_s:
                (group.parent / "cgroup.procs").write_text(str(pid))
                raise TimeoutError(f"{pid} lives on, and asked for no more memory")
            time.sleep(POLL_S)
        events = next(group / name for name in EVENTS if (group / name).exists()).read_text()
        if NO_KILL in events.splitlines():
            raise RuntimeError(f"{pid} ended, and not of want of memory: {events}")


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def _a_group(name: str) -> Iterator[Path]:
    own = own_group()
    if own is None:
        raise FileNotFoundError("no control group of memory")
    group = own / name
    group.mkdir()
    try:
        yield group
    finally:
        with suppress(OSError):  # a group of which somebody lives on
            group.rmdir()
