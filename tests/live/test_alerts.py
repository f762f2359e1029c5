"""Prometheus takes the configuration, and every alert fires and is silent when it should."""

import shutil
import subprocess

import pytest

from tests.live.prometheus import DEPLOYED, IMAGE, docker_with_image

pytestmark = pytest.mark.live

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def promtool() -> list[str]:
    """The tool on the path, else in the image that docker-compose.yml names."""
    if shutil.which("promtool"):
        return ["promtool"]
    if (docker := docker_with_image()) is None:
        pytest.skip(f"neither promtool nor Docker with {IMAGE} is here")
    mounted = f"{DEPLOYED}:{DEPLOYED}:ro"
    return [docker, "run", "--rm", "--volume", mounted, "--entrypoint", "promtool", IMAGE]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)


@pytest.mark.parametrize(
    "question",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "config", "--syntax-only", "prometheus.secure.yml"),  # its secrets are not here
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(promtool: list[str], question: tuple[str, ...]) -> None:
    *words, file = question
    done = run([*promtool, *words, str(DEPLOYED / file)])
    assert done.returncode == 0, done.stdout + done.stderr
