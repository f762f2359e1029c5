"""a process → killed by the kernel, for want of memory.

It is put into a memory control group of its own that may hold hardly anything more; what it holds
already stays with the group that it came from. The next pages that it touches are too many, and the
kernel ends it, as it ends a container beyond its limit.
"""

import time

import psutil

from load_tests.chaos.groups import a_group, limit_of

MORE_BYTES = 256 * 1024
KILLED_WITHIN_S = 60.0
POLL_S = 0.05
EVENTS = "memory.oom_control", "memory.events"  # of version 1, of version 2
NO_KILL = "oom_kill 0"


def starve(pid: int) -> None:
    """Let the kernel kill a process for want of memory; return when it is dead.

    Raises:
        TimeoutError: It lives on.
        RuntimeError: It ended of something else.
        OSError: No control group may be made here.
    """
    with a_group("memory", f"riskbeat-lab-{pid}") as group:
        limit_of("memory", group).write_text(str(MORE_BYTES))
        (group / "cgroup.procs").write_text(str(pid))
        end_s = time.monotonic() + KILLED_WITHIN_S
        while _lives(pid):
            if time.monotonic() > end_s:
                raise TimeoutError(f"{pid} lives on with {MORE_BYTES} bytes more")
            time.sleep(POLL_S)
        events = next(group / name for name in EVENTS if (group / name).exists()).read_text()
        if NO_KILL in events.splitlines():
            raise RuntimeError(f"{pid} ended, and not of want of memory: {events}")


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
