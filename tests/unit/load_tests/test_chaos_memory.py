"""The lab's want of memory: the kernel kills a process that grows, and we find its group."""

import subprocess
import sys
from pathlib import Path

import pytest

from load_tests.chaos import memory
from load_tests.chaos.memory import can_starve, own_group, starve

GROWS = """
held = []
while True:
    held.append(bytearray(100_000))
"""
SLEEPS = "import sys; print(flush=True); sys.stdin.read()"
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
    assert own_group(proc, root) == (root / where if where else None)


@pytest.mark.skipif(not can_starve(), reason="no memory control group may be made here")
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

    def test_a_process_that_asks_for_nothing_lives_on_as_before(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "KILLED_WITHIN_S", 0.2)
        with subprocess.Popen(
            [sys.executable, "-c", SLEEPS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.readline()
            with pytest.raises(TimeoutError, match="lives on"):
                starve(process.pid)
            assert own_group(Path(f"/proc/{process.pid}/cgroup")) == own_group()
            process.stdin.close()
            assert process.wait() == 0
