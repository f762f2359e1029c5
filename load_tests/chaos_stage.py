"""One deployment of the whole path, under load, and every fault that the lab can do to it."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis

from features.spec import Spec
from features.topics import Topics
from load_tests.chaos_crew import Crew, Role
from load_tests.chaos_features_check import Kept
from load_tests.chaos_features_servers import LossyRedis, client_of
from load_tests.chaos_load import Load
from load_tests.chaos_wire import Wire, a_wire
from load_tests.deployment import KAFKA, REDIS
from load_tests.report import ROOT
from riskbeat.embedded import free_ports
from tests.live.servers import Host, Server, wait_until

SPEC = ROOT / "features.yaml"
PARTITIONS, UPDATES_PARTITIONS = 2, 4
SESSION_TIMEOUT_S = 6.0  # the broker's floor
DEADLINE_S = 0.5
READY_TIMEOUT_S = 240.0
BACK_TIMEOUT_S = 240.0
ONE_SHOT_TIMEOUT_S = 120.0
POLL_S = 0.1
WORKERS = ("featurize-1", "featurize-2")
OTHERS = ("learn", "serve")


@dataclass(frozen=True)
class Blow:
    """One fault that was done.

    Attributes:
        begun_s: Monotonic clock.
        healed_s: When nothing stood in the way any more.
        back_s: From then until decisions, features and versions had all moved on.
    """

    kind: str
    begun_s: float
    healed_s: float
    back_s: float


@dataclass
class Stage:
    """A deployment that runs."""

    crew: Crew
    kafka: Server
    store: LossyRedis
    wires: dict[str, Wire]
    topics: Topics
    spec: Spec
    port: int
    load: Load
    draw: random.Random
    prefix: str
    say: Callable[[str], None]
    blows: list[Blow] = field(default_factory=list)
    rivals: list[int] = field(default_factory=list)

    @property
    def broker(self) -> Host:
        assert self.kafka.host is not None
        return self.kafka.host

    def strike(self, kind: str, fault: Callable[["Stage"], None]) -> None:
        """Do one fault, let it heal, and wait until everything moves again."""
        begun_s = time.monotonic()
        fault(self)
        healed_s = time.monotonic()
        self._until(self._moves(), kind)
        blow = Blow(kind, begun_s, healed_s, time.monotonic() - healed_s)
        self.blows.append(blow)
        self.say(f"{kind}: {healed_s - begun_s:.1f} s, back after {blow.back_s:.1f} s")

    def _moves(self) -> Callable[[], bool]:
        """Return what says whether answers, features and versions have moved on since now."""
        answered, marks, version = len(self.load.told.answers), self._marks(), self._version()

        def moved() -> bool:
            now, newest = self._marks(), self._version()
            return (
                len(self.load.told.answers) > answered
                and all(b > a for a, b in zip(marks, now, strict=True))
                and newest is not None
                and (version is None or newest > version)
            )

        return moved

    def _marks(self) -> list[int]:
        """Return the next updates offset of each partition; -1 where the store does not say."""
        found = []
        with client_of(self.store.server) as client:
            for p in range(UPDATES_PARTITIONS):
                try:
                    found.append(int(client.hget(f"{self.prefix}0:{{{p}}}:meta", "offset") or -1))
                except redis.RedisError:
                    found.append(-1)
        return found

    def _version(self) -> int | None:
        """Return the version that `serve` answers with; None if it does not say."""
        try:
            page = httpx.get(f"http://127.0.0.1:{self.port}/v1/model", timeout=2.0).json()
        except (httpx.TransportError, ValueError):
            return None
        return int(page["active"]["version"]) if page.get("active") else None

    def _until(self, true: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + BACK_TIMEOUT_S
        while not true():
            if time.monotonic() > end_s:
                raise TimeoutError(f"{what}: not back within {BACK_TIMEOUT_S:g} s")
            self.crew.pause(POLL_S)

    def kept(self) -> Kept:
        """Return the store's epoch, to be read from outside."""
        return Kept(client_of(self.store.server), f"{self.prefix}0:", UPDATES_PARTITIONS)


@contextmanager
def a_stage(
    folder: Path, kafka: Server, store: LossyRedis, seed: int, say: Callable[[str], None]
) -> Iterator[Stage]:
    """Start a deployment of this seed's own on shared servers; everything ends with the block."""
    topics, prefix = Topics(f"lab{seed}."), f"lab{seed}:"
    port, *pages = free_ports(5)
    with ExitStack() as stack:
        names = (*WORKERS, *OTHERS)
        wires = {name: stack.enter_context(a_wire(store.server.address)) for name in names}
        env = {
            KAFKA: kafka.address,
            REDIS: store.server.address,
            "RISKBEAT_TOPIC_PREFIX": topics.prefix,
            "RISKBEAT_REDIS_PREFIX": prefix,
            "RISKBEAT_SPEC_PATH": str(SPEC),
            "RISKBEAT_POLICY_PATH": str(ROOT / "policy.yaml"),
            "RISKBEAT_DATA_DIR": str(folder / "data"),
            "RISKBEAT_SIGNING_KEY_PATH": str(folder / "keys" / "signing.pem"),
            "RISKBEAT_PUBLIC_KEY_PATHS": f'["{folder / "keys" / "public.pem"}"]',
            "RISKBEAT_EVENTS_PARTITIONS": str(PARTITIONS),
            "RISKBEAT_DECISIONS_PARTITIONS": str(PARTITIONS),
            "RISKBEAT_LABELS_PARTITIONS": str(PARTITIONS),
            "RISKBEAT_UPDATES_PARTITIONS": str(UPDATES_PARTITIONS),
            "RISKBEAT_KAFKA_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "RISKBEAT_AUTH": "off",
            "RISKBEAT_DEVICE": "cpu",
            "RISKBEAT_HTTP_PORT": str(port),
            "RISKBEAT_DEADLINE_S": str(DEADLINE_S),
            "RISKBEAT_FEATURES_TIMEOUT_S": "0.1",
            "RISKBEAT_ACK_TIMEOUT_S": "0.2",
            "OMP_NUM_THREADS": "1",
        }
        roles = {
            name: Role(
                (name.split("-")[0],),
                {
                    REDIS: f"redis://127.0.0.1:{wires[name].port}/0",
                    "RISKBEAT_METRICS_PORT": str(page),
                    "RISKBEAT_DATA_DIR": str(folder / "data" / name),
                },
            )
            for name, page in zip(names, pages, strict=True)
        }
        crew = stack.enter_context(Crew(env, folder, roles))
        for command in ("topics", "keys"):
            _riskbeat(crew, command)
        for name in names:
            crew.start(name)
        wait_until(lambda: _ready(crew, port), "serve is ready", READY_TIMEOUT_S)
        load = stack.enter_context(Load(kafka.address, topics, port, PARTITIONS, seed))
        spec, draw = Spec.load(SPEC), random.Random(seed)
        stage = Stage(crew, kafka, store, wires, topics, spec, port, load, draw, prefix, say)
        stage._until(stage._moves(), "the start")
        yield stage


def _riskbeat(crew: Crew, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "riskbeat", *arguments],
        env={**os.environ, **crew.env},
        check=True,
        timeout=ONE_SHOT_TIMEOUT_S,
        capture_output=True,
    )


def _ready(crew: Crew, port: int) -> bool:
    crew.keep()
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2.0).status_code == 200
    except httpx.TransportError:
        return False
