"""A supervised process that dies is restarted, up to a limit, and leaves no grandchild."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from riskbeat.child import Child, ChildFailed, ChildSpec

DEADLINE_S = 20.0


def a_child(code: str, folder: Path, groups: list[int], restarts_max: int = 8) -> Child:
    command = (sys.executable, "-c", code)
    spec = ChildSpec("child", command, dict(os.environ), folder / "child.log", restarts_max)
    return Child(spec, groups.append)


async def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_killed_process_is_started_again_and_counted(tmp_path: Path) -> None:
    groups: list[int] = []
    child = a_child("import time; time.sleep(60)", tmp_path, groups)
    await child.start()
    first = child.pid
    child.kill()
    await until(lambda: child.restarts == 1 and child.pid is not None)
    second = child.pid
    await child.stop(DEADLINE_S)
    assert first != second
    assert groups == [first, -(first or 0), second, -(second or 0)]
    assert not psutil.pid_exists(second or 0)


async def test_one_death_too_many_fails_with_the_last_words(tmp_path: Path) -> None:
    child = a_child("print('no such key'); raise SystemExit(3)", tmp_path, [], restarts_max=1)
    await child.start()
    with pytest.raises(ChildFailed, match=r"child ended with code 3(.|\n)*no such key"):
        await asyncio.wait_for(asyncio.shield(child.failed), DEADLINE_S)
    assert child.restarts == 1
    await child.stop(DEADLINE_S)


async def test_a_deaf_process_and_its_children_are_killed(tmp_path: Path) -> None:
    told = tmp_path / "grandchild"
    code = (
        "import signal, subprocess, sys, pathlib, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "one = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"path = pathlib.Path({str(told)!r})\n"
        "path.with_suffix('.tmp').write_text(str(one.pid))\n"
        "path.with_suffix('.tmp').rename(path)\n"
        "time.sleep(60)\n"
    )
    child = a_child(code, tmp_path, [])
    await child.start()
    await until(told.exists)
    await child.stop(0.1)
    grandchild = int(told.read_text())
    await until(lambda: not psutil.pid_exists(grandchild) or _is_zombie(grandchild))


async def test_a_process_that_runs_once_is_judged_by_its_code(tmp_path: Path) -> None:
    await a_child("print('done')", tmp_path, []).run_once(DEADLINE_S)
    with pytest.raises(ChildFailed, match="code 1"):
        await a_child("raise SystemExit(1)", tmp_path, []).run_once(DEADLINE_S)
    late = a_child("import time; time.sleep(60)", tmp_path, [])
    with pytest.raises(ChildFailed, match="did not end within"):
        await late.run_once(0.05)
    await late.stop(DEADLINE_S)
    assert late.pid is None


def _is_zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
