"""The stack in containers loses store and disk, and comes back from an archive and the log."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.compose_stack import Stack, a_stack, now
from tests.live.compose_state import (
    LEARNED_TIMEOUT_S,
    replay_generated,
    settled,
    state_of,
    version_of,
)
from tests.live.servers import wait_until

pytestmark = [
    pytest.mark.live,
    pytest.mark.compose,
    pytest.mark.long,
    pytest.mark.timeout(2400),
]

EVENTS = 1_000
PAYMENTS = 6


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with a_stack(tmp_path) as stack:
        yield stack


def test_store_and_disk_are_wiped_and_put_back(stack: Stack, tmp_path: Path) -> None:
    stack.up()
    backups = tmp_path / "backups"
    backups.mkdir()
    backups.chmod(0o777)  # the containers' user is another
    replay_generated(stack, tmp_path, EVENTS)
    trade(stack, "before")

    stack.compose("stop", "learn")
    operate(stack, backups, "backup", "--out", "/backups/")
    [archive] = backups.iterdir()
    stack.compose("start", "learn")
    trade(stack, "after")  # what the archive does not know, and the log does
    wait_until(lambda: settled(stack), "everything that was sent is applied", LEARNED_TIMEOUT_S)
    kept, version = asyncio.run(state_of(stack)), version_of(stack)
    assert any(kept["blobs"])

    stack.compose("down")
    for volume in ("valkey", "learner", "keys"):
        subprocess.run(["docker", "volume", "rm", f"{stack.project}_{volume}"], check=True)
    stack.compose("up", "--detach", "--wait", "kafka", "valkey")
    operate(stack, backups, "restore", f"/backups/{archive.name}", "--dry-run")
    operate(stack, backups, "restore", f"/backups/{archive.name}")
    operate(stack, backups, "rebuild")
    stack.up()

    wait_until(lambda: version_of(stack) >= version, "the learner has caught up", LEARNED_TIMEOUT_S)
    wait_until(lambda: settled(stack), "what was sent again is passed over", LEARNED_TIMEOUT_S)
    assert asyncio.run(state_of(stack))["blobs"] == kept["blobs"]
    trade(stack, "again")


def trade(stack: Stack, name: str) -> None:
    """Decide some payments, report one of them, and wait for a version that learned it."""
    for number in range(PAYMENTS):
        stack.decide(f"{name}_{number}", f"tok_{number % 2}", now())
    before = version_of(stack)
    stack.report_fraud(f"{name}_0")
    wait_until(lambda: version_of(stack) > before, f"a version after {name}", LEARNED_TIMEOUT_S)


def operate(stack: Stack, backups: Path, *command: str) -> None:
    """Run a command as docs/backup.md says."""
    run = ("run", "--rm", "--no-deps", "--volume", f"{backups}:/backups")
    stack.compose(*run, "init", *command)
