"""Prometheus takes the configuration, and every alert fires and is silent when it should."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

FOLDER = Path(__file__).parents[2] / "deploy" / "prometheus"
IMAGE = "prom/prometheus:v2.42.0"
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def promtool() -> list[str]:
    """The tool on the path, else in the image that docker-compose.yml names."""
    if shutil.which("promtool"):
        return ["promtool"]
    docker = shutil.which("docker")
    if docker is None or run([docker, "image", "inspect", IMAGE]).returncode != 0:
        pytest.skip(f"neither promtool nor Docker with {IMAGE} is here")
    mounted = f"{FOLDER}:{FOLDER}:ro"
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
    done = run([*promtool, *words, str(FOLDER / file)])
    assert done.returncode == 0, done.stdout + done.stderr
