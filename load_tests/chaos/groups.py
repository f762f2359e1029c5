"""control groups: what a process may take of memory or of the processors, bounded from outside.

Both versions of control groups will do. Writing to them takes root, or a group that was delegated;
where none may be made, what needs them is left out and said to be.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psutil

CONTROL_GROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
Controller = Literal["memory", "cpu"]
LIMITS = {
    "memory": ("memory.limit_in_bytes", "memory.max"),  # of version 1, of version 2
    "cpu": ("cpu.cfs_quota_us", "cpu.max"),
}


def own_group(
    controller: Controller, proc: Path = Path("/proc/self/cgroup"), root: Path = CONTROL_GROUPS
) -> Path | None:
    """Return the folder of the group of this kind that this process is in; None without one."""
    for line in proc.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return root / controller / path.lstrip("/")
    whole = root / "cgroup.controllers"  # version 2 alone has one tree for all controllers
    return root / path.lstrip("/") if whole.exists() else None


def can_bound(controller: Controller) -> bool:
    """Whether this machine lets us make such groups."""
    try:
        with a_group(controller, "riskbeat-lab-tried") as group:
            return limit_of(controller, group).exists()
    except OSError:
        return False


@contextmanager
def a_group(controller: Controller, name: str) -> Iterator[Path]:
    """Make a group within our own; it is gone in the end.

    Raises:
        OSError: None may be made here.
    """
    group = _folder(controller, name)
    group.mkdir()
    try:
        yield group
    finally:
        with suppress(OSError):  # a group of which somebody lives on
            group.rmdir()


def limit_of(controller: Controller, group: Path) -> Path:
    """Return the file in which the group's bound stands."""
    first, second = (group / name for name in LIMITS[controller])
    return first if first.exists() else second


def slow_down(name: str, pid: int, share: float) -> None:
    """Let a process and its children have so much of one processor, until `let_run`."""
    group = _folder("cpu", name)
    group.mkdir(exist_ok=True)
    limit, quota_us = limit_of("cpu", group), int(PERIOD_US * share)
    limit.write_text(f"{quota_us} {PERIOD_US}" if limit.name == "cpu.max" else str(quota_us))
    family = psutil.Process(pid)
    for one in (family, *family.children(recursive=True)):
        _move(one.pid, group)


def let_run(name: str) -> None:
    """Undo `slow_down`."""
    group = _folder("cpu", name)
    for pid in (group / "cgroup.procs").read_text().split():
        _move(int(pid), group.parent)
    group.rmdir()


def _folder(controller: Controller, name: str) -> Path:
    own = own_group(controller)
    if own is None:
        raise FileNotFoundError(f"no control group of {controller}")
    return own / name


def _move(pid: int, group: Path) -> None:
    with suppress(ProcessLookupError):
        (group / "cgroup.procs").write_text(str(pid))
