"""A real Prometheus: the binary on the path, else the image that docker-compose.yml names."""

import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from riskbeat.ports import free_ports
from tests.live.servers import Unavailable, wait_until

DEPLOYED = Path(__file__).parents[2] / "deploy" / "prometheus"
IMAGE = "prom/prometheus:v2.42.0"
READY_S = 120.0
STOP_S = 30.0


def docker_with_image() -> str | None:
    """Return Docker's command, if it is here and holds the image."""
    docker = shutil.which("docker")
    asked = [docker or "docker", "image", "inspect", IMAGE]
    if docker is None or subprocess.run(asked, capture_output=True, check=False).returncode != 0:
        return None
    return docker


def _command(folder: Path, port: int) -> list[str]:
    words = [
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    if binary := shutil.which("prometheus"):
        return [binary, *words]
    if (docker := docker_with_image()) is None:
        raise Unavailable(f"neither prometheus nor Docker with {IMAGE} is here")
    name = f"riskbeat-watch-{uuid.uuid4().hex[:8]}"
    run = [docker, "run", "--rm", "--name", name, "--network", "host", "--user", "0"]
    mounts = ["--volume", f"{folder}:{folder}", "--entrypoint", "/bin/prometheus"]
    return [*run, *mounts, IMAGE, *words]


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        """Take where it answers."""
        self.client = httpx.Client(base_url=url, timeout=30.0)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Return the samples that a query finds now.

        Raises:
            ValueError: It does not understand the query.
        """
        answer = self.client.get("/api/v1/query", params={"query": query}).json()
        if answer["status"] != "success":
            raise ValueError(f"{query}: {answer}")
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def ready(self) -> bool:
        """Whether it answers questions."""
        with suppress(httpx.TransportError):
            return self.client.get("/-/ready").is_success
        return False

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        found = self.ask('ALERTS{alertstate="firing"}')
        return {one["metric"]["alertname"] for one in found}

    def broken_rules(self) -> list[str]:
        """Return the rules that it cannot evaluate."""
        groups = self.client.get("/api/v1/rules").json()["data"]["groups"]
        return [r["name"] for g in groups for r in g["rules"] if r["health"] == "err"]


@contextmanager
def a_prometheus(
    folder: Path, targets: Mapping[str, list[str]], interval_s: float | None = None
) -> Iterator[Prometheus]:
    """Run one with the configuration and the alerts of deploy/prometheus, for other targets.

    Args:
        folder: For its configuration and data.
        targets: Job → `host:port` of each of its processes.
        interval_s: Between two scrapes; that of the configuration if None.

    Raises:
        Unavailable: There is none to be had here.
    """
    (port,) = free_ports(1)
    config = yaml.safe_load((DEPLOYED / "prometheus.yml").read_text())
    if interval_s is not None:
        every = f"{interval_s:g}s"
        config["global"] = {"scrape_interval": every, "evaluation_interval": every}
    config["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": where}]}
        for name, where in targets.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(DEPLOYED / "alerts.yml", folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(_command(folder, port), stdout=log, stderr=log)
        prometheus = Prometheus(f"http://127.0.0.1:{port}")
        try:
            wait_until(prometheus.ready, "Prometheus answers", READY_S)
            yield prometheus
        finally:
            prometheus.client.close()
            process.terminate()
            process.wait(STOP_S)
