"""A serve process to measure: a filled store, a published version, and the client that asks it."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from features.client_redis import connect_redis
from features.spec import Spec
from features.topics import Topics
from load_tests.features_bench import EVENTS_PARTITIONS, Bench, bench
from load_tests.features_log import fill, zipf_log
from load_tests.features_saturation import now_ms
from load_tests.features_servers import CpuClock, Servers
from load_tests.processes import answers, wait_until
from load_tests.report import ROOT
from load_tests.scoring_client import Plan, Result
from load_tests.weights import a_network, a_version, balanced_trees
from models.registry_redis import RedisWeightsRegistry
from models.signing import Signer, ensure_keys
from models.weights import encode
from riskbeat.ports import LOOPBACK, free_ports

HISTORY_EVENTS, QUICK_HISTORY_EVENTS = 60_000, 6_000
FILL_TIMEOUT_S = 240.0
READY_TIMEOUT_S = 300.0
CLIENT_SLACK_S = 60.0
OPEN_CONNECTIONS = 256  # of open loops: past saturation a request must not wait for another's
SPEC = ROOT / "features.yaml"
WIDE = {  # what is measured is cost and delay; a neighbour's hiccup must not turn to degradation
    "RISKBEAT_FEATURES_TIMEOUT_S": "0.5",
    "RISKBEAT_ACK_TIMEOUT_S": "0.5",
    "RISKBEAT_FIRST_WEIGHTS_WAIT_S": "60",
    "RISKBEAT_AUTH": "off",
}


@dataclass(frozen=True)
class Load:
    """A result of the client, and what it cost the one who answered.

    Attributes:
        cpu_s: Of the process that answers.
        cpu_all_s: Of its children, too: a peer's workers, or the process of our index.
    """

    result: Result
    cpu_s: float
    cpu_all_s: float

    @property
    def per_cpu_s(self) -> float:
        """Good answers per CPU-second of the process that answers."""
        return self.result.ok / self.cpu_s if self.cpu_s else float("nan")

    @property
    def per_cpu_all_s(self) -> float:
        """Good answers per CPU-second of all processes."""
        return self.result.ok / self.cpu_all_s if self.cpu_all_s else float("nan")

    @property
    def per_s(self) -> float:
        """Good answers per second."""
        return self.result.ok / self.result.seconds


def ask(plan: Plan, pid: int, cores: list[int]) -> Load:
    """Run the client, and read the server's CPU at the begin and the end of its window."""
    command = [sys.executable, "-m", "load_tests.scoring_client", json.dumps(asdict(plan))]
    if cores:
        command = ["taskset", "-c", ",".join(map(str, cores)), *command]
    clock = CpuClock(pid)
    clock.read_s()
    spent: list[tuple[float, float]] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    timer = threading.Timer(plan.warm_s + plan.seconds + CLIENT_SLACK_S, process.kill)
    timer.start()
    last = ""
    assert process.stdout is not None
    for line in process.stdout:
        last = line
        if line.strip() in ("begin", "end"):
            every_s = clock.read_s()
            spent.append((clock.root_s, every_s))
    timer.cancel()
    if process.wait() or len(spent) < 2:
        raise RuntimeError(f"the client ended with {process.returncode}")
    (alone, every), (alone_then, every_then) = spent[:2]
    return Load(Result(**json.loads(last)), alone_then - alone, every_then - every)


@dataclass
class Site:
    """A serve process that answers, with what it answers from."""

    run: Bench
    port: int
    pid: int
    cores: list[int]
    signer: Signer
    spec: Spec
    tags: int = 0

    def ask(self, seconds: float, **plan: object) -> Load:
        """Ask for decisions; events of one call are never those of another."""
        self.tags += 1
        tag = f"{self.pid}-{self.tags}-"
        connections = OPEN_CONNECTIONS if plan.get("rate") else 64
        whole = {
            "path": "/v1/decisions",
            "connections": connections,
            "tag": tag,
            "seed": self.tags,
            **plan,
        }
        return ask(Plan(self.port, seconds=seconds, **whole), self.pid, self.cores)  # type: ignore[arg-type]

    def page(self, metric: str) -> float:
        """Add up a metric's samples."""
        return self.run.deployment.count("serve", metric)

    def versions(self, first: int, count: int) -> list[bytes]:
        """Return so many signed versions, alike but for their numbers."""
        rng = np.random.default_rng(1)
        n = self.spec.n_features
        members = {
            "network": ("network", a_network(n, 0, rng)),
            "boosted": ("trees", balanced_trees(n, rng)),
        }
        one = replace(a_version(members, n), schema_digest=self.spec.digest)
        made = now_ms()
        return [
            encode(replace(one, version=first + i, created_at_ms=made), self.signer)
            for i in range(count)
        ]

    def publish(self, first: int, versions: list[bytes], every_s: float) -> None:
        """Publish versions, one each `every_s`."""
        asyncio.run(self._publish(first, versions, every_s))

    async def _publish(self, first: int, versions: list[bytes], every_s: float) -> None:
        client = connect_redis(self.run.servers.store.address)
        prefix = self.run.env["RISKBEAT_REDIS_PREFIX"]
        registry = RedisWeightsRegistry(client, prefix, self.spec.digest)
        start = time.monotonic()
        for index, data in enumerate(versions):
            await registry.publish(first + index, data)
            await asyncio.sleep(max(0.0, start + (index + 1) * every_s - time.monotonic()))
        await client.aclose()


@contextmanager
def site(servers: Servers, folder: Path, quick: bool, **env: str) -> Iterator[Site]:
    """Fill the store by a featurize worker, which then goes on beside; publish a version; serve.

    What is decided must reach the states as it does in use: while a worker is away, every question
    has the rows of the last seconds applied on top, and costs several times as much.
    """
    (port,) = free_ports(1)
    told = {**WIDE, "RISKBEAT_HTTP_PORT": str(port), "RISKBEAT_DEVICE": "cpu", **env}
    events = QUICK_HISTORY_EVENTS if quick else HISTORY_EVENTS
    with bench(servers, folder, SPEC, **told) as run:
        topics = Topics(run.topic_prefix)
        ends = fill(
            servers.kafka.address, topics.events, zipf_log(events, now_ms()), EVENTS_PARTITIONS
        )
        worker = run.start()
        run.looks(worker, ends, "e", FILL_TIMEOUT_S)
        if servers.cores.rest:  # it fills alone; now it makes room for the scorer
            os.sched_setaffinity(worker.popen.pid, servers.cores.rest)
        home = run.deployment.folder / "keys"
        signer = ensure_keys(home / "signing.pem", home / "public.pem")
        keys = {"RISKBEAT_PUBLIC_KEY_PATHS": json.dumps([str(home / "public.pem")])}
        with servers.cores.for_subject():
            serve = run.processes.start("serve", "--no-stream", **keys)
        run.deployment.pages["serve"] = f"http://{LOOPBACK}:{port}/metrics"
        made = Site(run, port, serve.popen.pid, servers.cores.rest, signer, Spec.load(SPEC))
        made.publish(1, made.versions(1, 1), 0.0)
        ready = f"http://{LOOPBACK}:{port}/readyz"

        def is_ready() -> bool:
            run.processes.look()
            return answers(ready) and made.page("riskbeat_weights_version") >= 1

        wait_until(is_ready, "serve is ready", READY_TIMEOUT_S)
        yield made


def explaining(folder: Path) -> Path:
    """Return a policy like the shipped one that gives reasons on every answer."""
    text = (ROOT / "policy.yaml").read_text()
    changed = re.sub(r"approved_too: false", "approved_too: true", text)
    if changed == text:
        raise RuntimeError("policy.yaml has no `approved_too: false`")
    path = folder / "policy_explaining.yaml"
    path.write_text(changed)
    return path
