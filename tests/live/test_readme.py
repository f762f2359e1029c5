"""A fresh clone does in containers what the README says, by the README's own lines."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.compose_stack import ROOT, UP_TIMEOUT_S, Stack, a_stack
from tests.live.compose_state import LEARNED_TIMEOUT_S, decisions_of, version_of
from tests.live.servers import wait_until

pytestmark = [pytest.mark.live, pytest.mark.compose, pytest.mark.timeout(2400)]

ADDRESS = "127.0.0.1:8000"
EVENTS = 5_000
ASKED = ("decisions", "labels")


def blocks() -> list[str]:
    """Return the commands of the README: what stands between fences, in order."""
    return re.findall(r"^```\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.M)


def the_block(begins: str) -> str:
    [block] = [block for block in blocks() if block.startswith(begins)]
    return block


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with a_stack(tmp_path) as stack:
        yield stack


def test_the_readmes_commands_work_on_a_fresh_clone(stack: Stack, tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone of the repository")
    clone = tmp_path / "clone"
    git = ["git", "-c", "safe.directory=*"]  # who runs the test need not own the clone
    subprocess.run([*git, "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = {**os.environ, **stack.environment, "COMPOSE_PROJECT_NAME": stack.project}

    def run(command: str) -> str:
        done = subprocess.run(
            ["bash", "-euc", command.replace(ADDRESS, stack.http_url.removeprefix("http://"))],
            cwd=clone,
            env=environment,
            capture_output=True,
            text=True,
            timeout=UP_TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    up, *replay, down = the_block("docker compose up").splitlines()
    decide, label = (the_block(f"curl -s http://{ADDRESS}/v1/{what} ") for what in ASKED)
    run(up)
    for command in replay:
        run(command)
    wait_until(lambda: decisions_of(stack) >= EVENTS, "the log is decided", LEARNED_TIMEOUT_S)
    answer = json.loads(run(decide))
    assert answer["status"] == "new"
    assert answer["model"]["version"] >= 1
    assert answer["degraded"] == []
    before = version_of(stack)
    run(label)
    wait_until(lambda: version_of(stack) > before, "it is learned", LEARNED_TIMEOUT_S)
    run(down)
    assert stack.compose("ps", "--all", "--quiet") == ""
