"""A real Prometheus over a running stack has an answer to every question of every dashboard."""

import asyncio
import json
import math
import shutil
import subprocess
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from riskbeat.dashboards import DASHBOARDS, encode_dashboard
from riskbeat.embedded import free_ports
from riskbeat.stack import LocalStack
from tests.watched import EVENTS, PATIENT, READY_S, feed

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
IMAGE = "prom/prometheus:v2.42.0"
ANSWERED_S = 120
UNKNOWN = {  # a query whose answer may be no number here, and why
    "riskbeat_feature_psi": "no whole event day has passed",
}


def prometheus_command(folder: Path, port: int) -> list[str]:
    """The one on the path, else that of the image that docker-compose.yml names."""
    words = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    if binary := shutil.which("prometheus"):
        return [binary, *words]
    docker = shutil.which("docker")
    asked = [docker or "docker", "image", "inspect", IMAGE]
    if docker is None or subprocess.run(asked, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"neither prometheus nor Docker with {IMAGE} is here")
    name = f"riskbeat-watch-{uuid.uuid4().hex[:8]}"
    run = [docker, "run", "--rm", "--name", name, "--network", "host", "--user", "0"]
    mounts = ["--volume", f"{folder}:{folder}", "--entrypoint", "/bin/prometheus"]
    return [*run, *mounts, IMAGE, *words]


@pytest.fixture
async def stack() -> AsyncIterator[LocalStack]:
    async with LocalStack(environment=PATIENT) as running:
        await running.wait_ready(READY_S)
        yield running


@pytest.fixture
async def prometheus(stack: LocalStack, tmp_path: Path) -> AsyncIterator[str]:
    """Scrapes the stack under the job names of deploy/prometheus, with its alerts."""
    (port,) = free_ports(1)
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [url.split("/")[2]]}]}
        for name, url in stack.metrics_urls.items()
    ]
    shutil.copy(ROOT / "deploy" / "prometheus" / "alerts.yml", tmp_path)
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(*prometheus_command(tmp_path, port))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def ask(client: httpx.AsyncClient, query: str) -> list[dict[str, Any]]:
    answer = (await client.get("/api/v1/query", params={"query": query})).json()
    assert answer["status"] == "success", (query, answer)
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


async def test_every_panel_shows_something(stack: LocalStack, prometheus: str) -> None:
    queries = {
        target["expr"]: panel["title"]
        for dashboard in DASHBOARDS
        for panel in json.loads(encode_dashboard(dashboard))["panels"]
        for target in panel["targets"]
    }
    async with httpx.AsyncClient(base_url=prometheus, timeout=30) as client:
        await wait_ready(client)
        await feed(stack)
        deadline = time.monotonic() + ANSWERED_S
        began, silent = EVENTS, dict(queries)
        while silent and time.monotonic() < deadline:
            await feed(stack, began)  # rates need what happens between two scrapes
            began += EVENTS
            for query in list(silent):
                values = [float(one["value"][1]) for one in await ask(client, query)]
                excused = any(name in query for name in UNKNOWN)
                if values and (excused or any(map(math.isfinite, values))):
                    del silent[query]
        assert not silent, silent
        up = {one["metric"]["job"] for one in await ask(client, "up == 1")}
        assert up == set(stack.metrics_urls)
        rules = (await client.get("/api/v1/rules")).json()["data"]["groups"]
        broken = [r["name"] for g in rules for r in g["rules"] if r["health"] == "err"]
        assert not broken
        firing = await ask(client, 'ALERTS{alertname="RiskbeatDown", alertstate="firing"}')
        assert not firing


async def wait_ready(client: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + ANSWERED_S
    while time.monotonic() < deadline:
        try:
            if (await client.get("/-/ready")).is_success:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.2)
    raise AssertionError("Prometheus is not ready")
