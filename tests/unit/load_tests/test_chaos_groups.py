"""Control groups: the kernel kills a process that grows, and slows one down until let go."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from load_tests.chaos.groups import can_bound, let_run, own_group, slow_down
from load_tests.chaos.memory import starve

GROWS = """
held = []
while True:
    held.append(bytearray(100_000))
"""
LOOKED_S, SLOWED_MAX = 1.0, 0.3
ENDS = "import os, time; print(flush=True); time.sleep(0.5); os._exit(3)"


@pytest.mark.parametrize(
    ("lines", "controllers", "where"),
    [
        ("5:cpu:/a\n4:memory:/b/c\n0::/\n", False, "memory/b/c"),
        ("4:cpu,memory:/b\n", False, "memory/b"),
        ("0::/user.slice/x\n", True, "user.slice/x"),
        ("0::/user.slice/x\n", False, None),
    ],
    ids=["version 1", "version 1, joined", "version 2", "none"],
)
def test_own_group_is_found(
    tmp_path: Path, lines: str, controllers: bool, where: str | None
) -> None:
    proc, root = tmp_path / "cgroup", tmp_path / "groups"
    proc.write_text(lines)
    root.mkdir()
    if controllers:
        (root / "cgroup.controllers").touch()
    assert own_group("memory", proc, root) == (root / where if where else None)


@pytest.mark.skipif(not can_bound("memory"), reason="no memory control group may be made here")
class TestStarve:
    def test_a_process_that_grows_is_killed_by_the_kernel(self) -> None:
        with subprocess.Popen([sys.executable, "-c", GROWS]) as process:
            starve(process.pid)
            assert process.wait() == -9

    def test_a_process_that_ends_by_itself_was_not_killed(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ENDS], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()  # what a start takes is taken
            with pytest.raises(RuntimeError, match="not of want of memory"):
                starve(process.pid)


@pytest.mark.skipif(not can_bound("cpu"), reason="no processor control group may be made here")
def test_a_process_that_is_slowed_down_gets_its_share_until_it_is_let_run() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        slow_down("riskbeat-test", process.pid, 0.05)
        first_s, slow_s = used_s(process.pid), time.monotonic()
        while time.monotonic() < slow_s + LOOKED_S:
            time.sleep(LOOKED_S / 10)
        slowed = (used_s(process.pid) - first_s) / (time.monotonic() - slow_s)
        let_run("riskbeat-test")
        before_s = used_s(process.pid)
        while used_s(process.pid) < before_s + LOOKED_S:  # it would take 20 times as long
            time.sleep(LOOKED_S / 10)
        process.kill()
    assert slowed < SLOWED_MAX


def used_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)
