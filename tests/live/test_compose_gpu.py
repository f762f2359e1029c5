"""`docker compose --profile gpu`: what Compose makes of it, and a decision where there is a GPU.

The run needs a driver, its container runtime and minutes to build; elsewhere it skips and says why.
"""

import json
import os
import subprocess
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from riskbeat.ports import LOOPBACK, free_ports
from tests.live.servers import Unavailable, check_docker

pytestmark = [pytest.mark.live, pytest.mark.compose, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]
PORTS = ("PORT", "GPU_PORT", "KAFKA_PORT", "REDIS_PORT", "PROMETHEUS_PORT")
UP_TIMEOUT_S = 1800.0


@pytest.fixture
def env() -> dict[str, str]:
    try:
        check_docker()
    except Unavailable as why:
        pytest.skip(str(why))
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    return {
        **os.environ,
        "COMPOSE_PROJECT_NAME": f"gpu{uuid.uuid4().hex[:8]}",
        **{f"RISKBEAT_{name}": str(port) for name, port in ports.items()},
    }


def compose(env: dict[str, str], *arguments: str, timeout_s: float = 120.0) -> str:
    done = subprocess.run(
        ["docker", "compose", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def services(env: dict[str, str], *profiles: str) -> dict[str, Any]:
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    found = json.loads(compose(env, *chosen, "config", "--format", "json"))
    return dict(found["services"])


def test_the_profile_reserves_a_device_for_a_scorer_of_the_cuda_build(
    env: dict[str, str],
) -> None:
    assert "serve-gpu" not in services(env)
    serve = services({**env, "TORCH_BACKEND": "cpu"}, "gpu")["serve-gpu"]
    assert serve["command"] == ["serve"]
    assert serve["environment"]["RISKBEAT_DEVICE"] == "cuda"
    assert serve["build"]["args"]["TORCH_BACKEND"] == "", "the index's build, which has CUDA"
    (device,) = serve["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert device["count"] == 1
    assert [port["host_ip"] for port in serve["ports"]] == [LOOPBACK]


def test_a_decision_is_scored_on_the_gpu(env: dict[str, str]) -> None:
    runtimes = subprocess.run(
        ["docker", "info", "--format", "{{json .Runtimes}} {{json .CDISpecDirs}}"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    if not Path("/dev/nvidiactl").exists():
        pytest.skip("no NVIDIA device")
    if "nvidia" not in runtimes:
        pytest.skip("Docker has no NVIDIA container runtime")
    try:
        compose(env, "--profile", "gpu", "up", "--build", "--wait", timeout_s=UP_TIMEOUT_S)
        url = f"http://{LOOPBACK}:{env['RISKBEAT_GPU_PORT']}/v1/model"
        device = httpx.get(url, timeout=10).json()["device"]
        assert not device.startswith("cpu")
    finally:
        compose(env, "--profile", "gpu", "down", "--volumes", timeout_s=300.0)
