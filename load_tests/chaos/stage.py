"""One deployment of the whole path, under load, and every fault that the lab can do to it."""

import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import httpx
import redis

from features.spec import Spec
from features.topics import Topics
from load_tests.chaos.clock import Clock
from load_tests.chaos.crew import LEARNERS, PROCESSES, SCORER, Crew
from load_tests.chaos.load import HTTP_PER_S, Load
from load_tests.chaos.roles import (
    DEADLINE_S,
    PARTITIONS,
    UPDATES_PARTITIONS,
    environment,
    roles_of,
)
from load_tests.chaos.servers import Servers
from load_tests.chaos.wire import Wire, port_of
from load_tests.chaos_features.check import Kept
from load_tests.chaos_features.servers import LossyRedis, client_of
from riskbeat.ports import LOOPBACK, free_ports
from tests.live.servers import Host, Server, wait_until

READY_TIMEOUT_S = 240.0
BACK_TIMEOUT_S = 240.0
POLL_S = 0.1
STEADY_S = 3.0


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


class LeftOut(RuntimeError):
    """A fault cannot be done here; says why."""


@dataclass
class Stage:
    """A deployment that runs.

    Attributes:
        wires: Process → its wire to the store.
        log_wires: Process → its wire to the log.
        caller_wire: Who asks → the scorer.
        clock: The time of day of one drawn process; the library costs too much for all.
        steady_s: When all was well, and the first fault might come; monotonic clock.
        http: A client of the scorer, kept: making one costs more than many questions.
        client: And one of the store.
    """

    crew: Crew
    kafka: Server
    store: LossyRedis
    wires: dict[str, Wire]
    log_wires: Mapping[str, Wire]
    caller_wire: Wire
    clock: Clock
    http: httpx.Client
    client: redis.Redis
    topics: Topics
    spec: Spec
    load: Load
    draw: random.Random
    prefix: str
    say: Callable[[str], None]
    blows: list[Blow] = field(default_factory=list)
    rivals: list[int] = field(default_factory=list)
    steady_s: float = 0.0

    @property
    def broker(self) -> Host:
        assert self.kafka.host is not None
        return self.kafka.host

    def strike(self, kind: str, fault: Callable[["Stage"], None]) -> None:
        """Do one fault, let it heal, and wait until everything moves again."""
        begun_s = time.monotonic()
        try:
            fault(self)
        except LeftOut as why:
            self.say(f"{kind}: left out, {why}")
            return
        healed_s = time.monotonic()
        self._until(self._moves(), kind)
        blow = Blow(kind, begun_s, healed_s, time.monotonic() - healed_s)
        self.blows.append(blow)
        self.say(f"{kind}: {healed_s - begun_s:.1f} s, back after {blow.back_s:.1f} s")

    def is_steady(self) -> bool:
        """Whether all that was asked for some seconds was answered, and in time.

        What a lab breaks must have worked before: servers and processes that have just started are
        slow, on a small machine most of all.
        """
        told, since_s = self.load.told, time.monotonic() - STEADY_S
        took_s = [one.took_s for one in list(told.answers.values()) if one.asked_at_s >= since_s]
        refused = any(at_s >= since_s for at_s, _ in [*told.refusals, *told.faults])
        enough = len(took_s) >= STEADY_S * HTTP_PER_S * self.load.pace / 2
        return enough and max(took_s) <= DEADLINE_S and not refused

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
        for p in range(UPDATES_PARTITIONS):
            try:
                found.append(int(self.client.hget(f"{self.prefix}0:{{{p}}}:meta", "offset") or -1))
            except redis.RedisError:
                found.append(-1)
        return found

    def _version(self) -> int | None:
        """Return the version that `serve` answers with; None if it does not say."""
        try:
            page = self.http.get("/v1/model").json()
        except (httpx.TransportError, ValueError):
            return None
        return int(page["active"]["version"]) if page.get("active") else None

    def _until(self, true: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + BACK_TIMEOUT_S
        while not true():
            if time.monotonic() > end_s:
                raise TimeoutError(f"{what}: not back within {BACK_TIMEOUT_S:g} s")
            self.crew.pause(POLL_S)

    def leader(self) -> str:
        """Return which of the learners publishes; either, where the store does not say."""
        with suppress(redis.RedisError):
            for key in self.client.scan_iter(f"{self.prefix}*:lease"):
                owner = str(self.client.get(key))
                for name in LEARNERS:
                    if f"/{self.crew.running[name].pid}-" in owner:
                        return name
        return self.draw.choice(LEARNERS)

    def answering(self) -> int:
        """Return the process id of the scorer that answers: called last, or rolled in since."""
        log = self.log_of(SCORER)
        called = re.findall(r"^worker\.(?:called|rolled) worker=(\d+)", log, re.MULTILINE)[-1]
        started = rf"^worker\.started.*\bworker={called}\b.*\bpid=(\d+)"
        return int(re.findall(started, log, re.MULTILINE)[-1])

    def log_of(self, name: str) -> str:
        """Return what a process has written."""
        return (self.crew.folder / f"{name}.log").read_text(errors="replace")

    def kept(self) -> Kept:
        """Return the store's epoch, to be read from outside."""
        return Kept(client_of(self.store.server), f"{self.prefix}0:", UPDATES_PARTITIONS)


@contextmanager
def a_stage(
    folder: Path,
    servers: Servers,
    seed: int,
    say: Callable[[str], None],
    *,
    with_clock: bool = False,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Stage]:
    """Start a deployment of this seed's own on shared servers; everything ends with the block.

    Args:
        folder: For data and logs.
        servers: Which may have served others.
        seed: Names its topics and keys, and draws the load.
        say: Told what happens.
        with_clock: Whether one process sees a clock that can be stepped.
        settings: Of all processes, beside the lab's own.
    """
    topics, prefix = Topics(f"lab{seed}."), f"lab{seed}:"
    kafka, store, log_wires = servers.kafka, servers.store, servers.log_wires
    port, *pages = free_ports(1 + len(PROCESSES))
    with ExitStack() as stack:
        wires = {name: servers.box.wire(port_of(store.server.address)) for name in PROCESSES}
        draw = random.Random(seed)
        clocked, clock = draw.choice(PROCESSES), Clock(folder / "clock")
        env = {**environment(folder, servers, topics, prefix, port), **settings}
        clocks = {clocked: clock.environment} if with_clock else {}
        roles = roles_of(folder, wires, log_wires, dict(zip(PROCESSES, pages, strict=True)), clocks)
        crew = stack.enter_context(Crew(env, folder, roles))
        for command in ("topics", "keys"):
            crew.ask(command)
        for name in PROCESSES:
            crew.start(name)
        base = f"http://{LOOPBACK}:{port}"
        http = stack.enter_context(httpx.Client(base_url=base, timeout=2.0))
        client = stack.enter_context(client_of(store.server))
        wait_until(lambda: _ready(crew, http), "serve is ready", READY_TIMEOUT_S)
        wait_until(lambda: _stand_by(crew), "the spares stand by", READY_TIMEOUT_S)
        caller_wire = servers.box.wire(port)
        load = Load(kafka.address, topics, caller_wire.port, PARTITIONS, seed)
        stack.enter_context(load)
        spec = Spec.load(Path(env["RISKBEAT_SPEC_PATH"]))
        stage = Stage(
            crew,
            kafka,
            store,
            wires,
            log_wires,
            caller_wire,
            clock,
            http,
            client,
            topics,
            spec,
            load,
            draw,
            prefix,
            say,
        )
        stage._until(stage._moves(), "the start")
        stage._until(stage.is_steady, "a steady state")
        stage.steady_s = time.monotonic()
        yield stage


def _ready(crew: Crew, http: httpx.Client) -> bool:
    crew.keep()
    try:
        return http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _stand_by(crew: Crew) -> bool:
    """Whether the spare scorer and the standby learner have loaded."""
    crew.keep()
    learners = "".join((crew.folder / f"{name}.log").read_text() for name in LEARNERS)
    scorer = (crew.folder / f"{SCORER}.log").read_text()
    return "learn.standby " in learners and "worker.stands_by " in scorer
