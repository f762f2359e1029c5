"""A deployment to measure: servers by address, or embedded ones, and `riskbeat` around them."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from load_tests.processes import Processes, answers, page, run_riskbeat, wait_until
from riskbeat.ports import LOOPBACK, free_ports

READY_TIMEOUT_S = 600.0
SERVERS_TIMEOUT_S = 60.0
WORKERS = ("featurize", "learn", "serve")
KAFKA = "RISKBEAT_KAFKA_BOOTSTRAP_SERVERS"
REDIS = "RISKBEAT_REDIS_URL"


@dataclass
class Deployment:
    """What is measured, and where it answers.

    Attributes:
        servers: What broker and store are, for a reader of the figures.
    """

    processes: Processes
    servers: str
    folder: Path
    pages: dict[str, str]

    def run(self, *words: str) -> str:
        """Run `riskbeat` and words to its end; see `run_riskbeat`."""
        return run_riskbeat(self.processes.env, *words)

    def count(self, process: str, metric: str, **labels: str) -> float:
        """Add up a metric's samples on one process's page."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        total = 0.0
        for line in page(self.pages[process]).splitlines():
            if re.match(rf"{metric}[{{ ]", line) and all(pair in line for pair in wanted):
                total += float(line.rsplit(" ", 1)[1])
        return total

    def histogram(self, process: str, metric: str, **labels: str) -> dict[float, float]:
        """Return upper edge → cumulative count of a histogram."""
        wanted = [f'{name}="{value}"' for name, value in labels.items()]
        edges: dict[float, float] = {}
        for line in page(self.pages[process]).splitlines():
            found = re.match(rf'{metric}_bucket{{.*?le="([^"]+)".*}} (\S+)', line)
            if found and all(pair in line for pair in wanted):
                edge = float(found[1])
                edges[edge] = edges.get(edge, 0.0) + float(found[2])
        return edges

    def cpu_s(self) -> dict[str, float]:
        """Return CPU seconds so far by worker."""
        self.processes.look()
        return {name: process.cpu_s for name, process in self.processes.running.items()}


@contextmanager
def deployed(env: dict[str, str], workers: Sequence[str] = WORKERS) -> Iterator[Deployment]:
    """Start everything, yield it when it can answer, stop it at the end.

    Servers are those of `RISKBEAT_KAFKA_BOOTSTRAP_SERVERS` and `RISKBEAT_REDIS_URL`, in `env` or of
    this process, which must be empty of this deployment's topics; else embedded ones.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="riskbeat-load-")))
        servers = "given addresses"
        known = {**os.environ, **env}
        addresses = {name: known[name] for name in (KAFKA, REDIS) if name in known}
        if len(addresses) < 2:
            addresses = stack.enter_context(_embedded(folder))
            servers = "embedded broker and store"
        ports = dict(zip(WORKERS, free_ports(len(WORKERS)), strict=True))
        settings = {
            **addresses,
            "RISKBEAT_TOPIC_PREFIX": f"load{os.getpid()}.",
            "RISKBEAT_REDIS_PREFIX": f"load{os.getpid()}:",
            "RISKBEAT_DATA_DIR": str(folder / "data"),
            "RISKBEAT_SIGNING_KEY_PATH": str(folder / "keys" / "signing.pem"),
            "RISKBEAT_PUBLIC_KEY_PATHS": json.dumps([str(folder / "keys" / "public.pem")]),
            "RISKBEAT_HTTP_PORT": str(ports["serve"]),
            "RISKBEAT_AUTH": "off",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "",  # else every start compiles anew; an image has it
            **env,
        }
        processes = stack.enter_context(Processes(settings, folder))
        pages = {name: f"http://{LOOPBACK}:{port}/metrics" for name, port in ports.items()}
        deployment = Deployment(processes, servers, folder, pages)
        for command in ("topics", "keys"):
            deployment.run(command)
        for name in workers:
            processes.start(name, RISKBEAT_METRICS_PORT=str(ports[name]))
        ready = f"http://{LOOPBACK}:{ports['serve']}/readyz"
        wait_until(lambda: _alive(processes) and answers(ready), "serve ready", READY_TIMEOUT_S)
        yield deployment


def _alive(processes: Processes) -> bool:
    processes.look()
    return True


@contextmanager
def _embedded(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / "servers.log").open("wb") as log:
        popen = subprocess.Popen(
            [sys.executable, "-m", "riskbeat", "up", "--servers-only", "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert popen.stdout is not None
            addresses = json.loads(popen.stdout.readline())
            yield {KAFKA: addresses["kafka"], REDIS: addresses["redis"]}
        finally:
            popen.send_signal(signal.SIGINT)
            popen.wait(SERVERS_TIMEOUT_S)
