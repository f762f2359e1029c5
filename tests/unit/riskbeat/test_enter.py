"""A standby takes a lease's holder for dead only where it would have to see it live."""

import os
import subprocess
import sys
from pathlib import Path

from riskbeat.enter import is_dead, owner_of


def test_a_process_that_runs_is_not_dead(tmp_path: Path) -> None:
    path = tmp_path / "learn" / "join.sqlite"
    assert not is_dead(path, owner_of(path))


def test_one_of_this_machine_and_disk_that_ended_is(tmp_path: Path) -> None:
    path = tmp_path / "learn" / "join.sqlite"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    ours = owner_of(path)
    theirs = ours.replace(f"/{os.getpid()}-", f"/{ended.pid}-")
    assert theirs != ours
    assert is_dead(path, theirs)


def test_of_other_machines_and_disks_nothing_is_known(tmp_path: Path) -> None:
    path, other = tmp_path / "join.sqlite", tmp_path / "other.sqlite"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    elsewhere = owner_of(other).replace(f"/{os.getpid()}-", f"/{ended.pid}-")
    assert not is_dead(path, elsewhere)
    assert not is_dead(path, f"another-machine:1:2/{ended.pid}-abcd")
    assert not is_dead(path, "nonsense")
    assert not is_dead(path, "")
