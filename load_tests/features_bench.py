"""A featurize worker to measure: its topics, its processes, and the marks that it commits.

What is committed is read from where readers read it: the mark of an updates partition, which is
written in one step with the states, says which offsets of the source are in them.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from features.store import Source, decode_watermarks
from load_tests.deployment import KAFKA, REDIS, Deployment
from load_tests.features_servers import CpuClock, Servers
from load_tests.processes import Process, Processes, wait_until
from riskbeat.ports import LOOPBACK, free_ports

GOAL_SPEC = Path(__file__).parent / "goal_features.yaml"
EVENTS_PARTITIONS = 4
UPDATES_PARTITIONS = 8
START_TIMEOUT_S = 240.0  # the first worker of a spec may have to compile the kernels
LOOK_S = 0.005
_runs = count(1)


@dataclass(frozen=True)
class Look:
    """One look at a worker.

    Attributes:
        at_s: Monotonic clock.
        committed: Source records that are in every updates partition's states.
        cpu_s: Of the worker so far.
        opened: Whether every updates partition was opened by a worker.
    """

    at_s: float
    committed: int
    cpu_s: float
    opened: bool


@dataclass
class Bench:
    """Topics and keys of one run, and the workers on them."""

    servers: Servers
    processes: Processes
    deployment: Deployment
    env: dict[str, str]
    ports: dict[str, int] = field(default_factory=dict)
    epoch: int = 0

    @property
    def topic_prefix(self) -> str:
        return self.env["RISKBEAT_TOPIC_PREFIX"]

    def topic(self, name: str) -> str:
        """Return a topic's full name."""
        return f"{self.topic_prefix}{name}"

    def mark_keys(self) -> list[str]:
        """Return where the marks of all updates partitions stand."""
        prefix = self.env["RISKBEAT_REDIS_PREFIX"]
        return [f"{prefix}{self.epoch}:{{{p}}}:mark" for p in range(UPDATES_PARTITIONS)]

    def start(self, name: str = "featurize") -> Process:
        """Start a worker on the subject's core, under a name of its own."""
        (port,) = free_ports(1)
        self.deployment.pages[name] = f"http://{LOOPBACK}:{port}/metrics"
        with self.servers.cores.for_subject():
            process = self.processes.start("featurize", RISKBEAT_METRICS_PORT=str(port))
        self.processes.running[name] = self.processes.running.pop("featurize")
        return process

    def marks(self, source: Source = "e") -> list[list[int]]:
        """Return next offsets by updates partition and source partition; -1 where unopened."""
        with self.servers.client() as client:
            return next_offsets(client.mget(self.mark_keys()), source)

    def looks(
        self, process: Process, ends: Sequence[int], source: Source, timeout_s: float
    ) -> list[Look]:
        """Watch a worker until its states hold every source partition up to `ends`.

        Returns early, with what was reached, when `timeout_s` is over.
        """
        found: list[Look] = []
        keys = self.mark_keys()
        clock = CpuClock(process.popen.pid)
        deadline = time.monotonic() + timeout_s
        with self.servers.client() as client:
            while True:
                spent_s = clock.read_s()  # of one that has just ended, too
                ended = process.popen.poll() is not None  # then the marks hold all that it did
                data = client.mget(keys)
                at_s = time.monotonic()
                done = committed(next_offsets(data, source), ends)
                found.append(Look(at_s, done, spent_s, all(data)))
                if done >= sum(ends) or at_s > deadline:
                    return found
                if ended:
                    process.look()  # raises, with the worker's last words
                time.sleep(LOOK_S)

    def accepted(self) -> float:
        """Return how many events the running workers took."""
        return sum(
            self.deployment.count(name, "riskbeat_events_total", outcome="accepted")
            for name in self.processes.running
        )


def next_offsets(data: Sequence[bytes | None], source: Source) -> list[list[int]]:
    """Decode marks: by updates partition, the next offset of each source partition (≥ 0)."""
    found = []
    for each in data:
        marks = decode_watermarks(each)[1] if each else None
        mine = [] if marks is None else (marks.e if source == "e" else marks.l)
        found.append([max(0, mark.next_offset) for mark in mine])
    return found


def committed(offsets: Sequence[Sequence[int]], ends: Sequence[int]) -> int:
    """Count source records that every updates partition has, none beyond `ends`."""
    total = 0
    for s, end in enumerate(ends):
        total += min(min(marks[s] if s < len(marks) else 0, end) for marks in offsets)
    return total


@contextmanager
def bench(servers: Servers, folder: Path, spec: Path = GOAL_SPEC, **env: str) -> Iterator[Bench]:
    """Make a run's topics, yield, stop its workers and delete what it left."""
    number = next(_runs)
    home = folder / f"run{number}"
    home.mkdir()
    name = f"load{os.getpid()}-{number}"
    settings = {
        KAFKA: servers.kafka.address,
        REDIS: servers.store.address,
        "RISKBEAT_TOPIC_PREFIX": f"{name}.",
        "RISKBEAT_REDIS_PREFIX": f"{name}:",
        "RISKBEAT_DATA_DIR": str(home / "data"),
        "RISKBEAT_SPEC_PATH": str(spec),
        "RISKBEAT_EVENTS_PARTITIONS": str(EVENTS_PARTITIONS),
        "RISKBEAT_LABELS_PARTITIONS": str(EVENTS_PARTITIONS),
        "RISKBEAT_UPDATES_PARTITIONS": str(UPDATES_PARTITIONS),
        "OMP_NUM_THREADS": "1",
        **env,
    }
    with Processes(settings, home) as processes:
        deployment = Deployment(processes, servers.words, home, {})
        deployment.run("topics")
        try:
            yield Bench(servers, processes, deployment, settings)
        finally:
            processes.stop()
            servers.forget(name, f"{name}:")


def wait_opened(run: Bench) -> float:
    """Wait until a worker has opened every updates partition; return the seconds."""

    def opened() -> bool:
        run.processes.look()
        with run.servers.client() as client:
            return all(client.mget(run.mark_keys()))

    return wait_until(opened, "the worker opens its partitions", START_TIMEOUT_S)
