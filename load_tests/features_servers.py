"""Broker and store of a measurement: given addresses, containers of our own, or embedded ones.

Where there are two cores or more, servers and load share all but the last core and whatever is
measured has the last one for itself.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil
import redis
from aiokafka.admin import AIOKafkaAdminClient

from load_tests.deployment import KAFKA, REDIS
from riskbeat.probe_kafka import KafkaSilent, probe_kafka
from tests.live.servers import (
    EMBEDDED_BROKER,
    PROXIED,
    ContainerHost,
    ProcessHost,
    Server,
    Unavailable,
    answering,
    kafka_embedded,
    kafka_in_docker,
    redis_embedded,
    redis_in_docker,
    wait_until,
)

STORE_TIMEOUT_S = 120.0  # to forget ten million states takes a while
SCAN_COUNT = 10_000
PROBE_TIMEOUT_S = 5.0
CHILDREN_S = 1.0


@dataclass
class Cores:
    """Which cores are whose.

    Attributes:
        subject: Of what is measured; empty where nothing is pinned.
        rest: Of servers, load and observers.
    """

    subject: list[int] = field(default_factory=list)
    rest: list[int] = field(default_factory=list)

    @classmethod
    def of_machine(cls) -> "Cores":
        """Give the last core to the subject, if there is one to spare."""
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return cls(cores[-1:], cores[:-1]) if len(cores) > 1 else cls()

    def words(self) -> str:
        """Say what is pinned where."""
        if not self.subject:
            return "nothing pinned"
        return f"measured processes on core {self.subject}, servers and load on {self.rest}"

    @contextmanager
    def for_subject(self) -> Iterator[None]:
        """Let processes that are started inside have the subject's core."""
        if not self.subject:
            yield
            return
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self.subject)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)


@dataclass
class Servers:
    """A broker and a store that answer."""

    kafka: Server
    store: Server
    cores: Cores

    @property
    def words(self) -> str:
        """Say what they are and what is pinned."""
        return f"{self.kafka.what}; {self.store.what}; {self.cores.words()}"

    @contextmanager
    def unpinned(self) -> Iterator["Servers"]:
        """Let everything use every core, as where delays are measured on few cores."""
        every = self.cores.rest + self.cores.subject
        for server in (self.kafka, self.store):
            _pin(server, every)
        try:
            yield Servers(self.kafka, self.store, Cores())
        finally:
            for server in (self.kafka, self.store):
                _pin(server, self.cores.rest)

    @property
    def apache(self) -> bool:
        """Whether the broker forgets members that were killed."""
        return self.kafka.what != EMBEDDED_BROKER

    def cpu_s(self) -> dict[str, float]:
        """Return CPU seconds so far of the servers whose processes can be seen."""
        found = {}
        for name, server in (("Kafka", self.kafka), ("Redis", self.store)):
            pid = _pid(server)
            if pid is not None:
                found[name] = CpuClock(pid).read_s()
        return found

    def client(self) -> redis.Redis:
        """Return a connected client of the store."""
        return redis.Redis.from_url(self.store.address, socket_timeout=STORE_TIMEOUT_S)

    def used_bytes(self) -> int:
        """Return what the store holds in memory."""
        with self.client() as client:
            return int(client.info("memory")["used_memory"])

    def forget(self, run: str, redis_prefix: str) -> None:
        """Delete topics named for a run, and its keys; everything in a store of our own."""
        asyncio.run(_delete_topics(self.kafka.address, run))
        with self.client() as client:
            if self.store.host is not None:
                client.flushall()
                return
            for key in client.scan_iter(f"{redis_prefix}*", count=SCAN_COUNT):
                client.unlink(key)


class CpuClock:
    """CPU seconds of a process and its children, cheap to read often.

    Children are looked for once a second; what a child spent before it ended is kept.
    """

    def __init__(self, pid: int) -> None:
        """Watch a running process."""
        self._root = psutil.Process(pid)
        self._spent: dict[psutil.Process, float] = {}
        self._members: list[psutil.Process] = []
        self._look_again_s = 0.0

    def read_s(self) -> float:
        """Return CPU seconds so far."""
        if time.monotonic() >= self._look_again_s:
            self._look_again_s = time.monotonic() + CHILDREN_S
            with suppress(psutil.NoSuchProcess):
                self._members = [self._root, *self._root.children(recursive=True)]
        for member in self._members:
            with suppress(psutil.NoSuchProcess):
                times = member.cpu_times()
                self._spent[member] = times.user + times.system
        return sum(self._spent.values())

    @property
    def root_s(self) -> float:
        """CPU seconds of the process alone, when they were read last."""
        return self._spent.get(self._root, 0.0)

    def rss_bytes(self) -> int:
        """Return resident bytes of all of them now."""
        total = 0
        for member in self._members:
            with suppress(psutil.NoSuchProcess):
                total += member.memory_info().rss
        return total


@contextmanager
def serving(folder: Path) -> Iterator[Servers]:
    """Start what is not given by address, yield it when it answers, remove it at the end."""
    cores = Cores.of_machine()
    given = {name: os.environ[name] for name in (KAFKA, REDIS) if os.environ.get(name)}
    started: list[Server] = []
    try:
        for name, ways in (
            (KAFKA, (partial(kafka_in_docker, proxied=PROXIED), kafka_embedded)),
            (REDIS, (partial(redis_in_docker, proxied=PROXIED), redis_embedded)),
        ):
            started.append(_given(given, name) or _first(ways, folder / name.lower()))
            _pin(started[-1], cores.rest)
        kafka, store = started
        wait_until(lambda: _kafka_answers(kafka.address), f"{kafka.what} answers")
        yield Servers(kafka, answering(store), cores)
    finally:
        for server in started:
            if server.host is not None:
                server.host.remove()


def _given(addresses: Mapping[str, str], name: str) -> Server | None:
    return Server(addresses[name], f"{name} as given") if name in addresses else None


def _first(ways: Sequence, folder: Path) -> Server:  # type: ignore[type-arg]
    folder.mkdir()
    reasons = []
    for way in ways:
        try:
            server: Server = way(folder)
            return server
        except Unavailable as reason:
            reasons.append(str(reason))
    raise Unavailable("; ".join(reasons))


def _pid(server: Server) -> int | None:
    """Return the process of a server of ours, if it runs on this machine."""
    pid = None
    if isinstance(server.host, ContainerHost):
        server.host.wrapped.reload()
        pid = int(server.host.wrapped.attrs["State"]["Pid"])
    elif isinstance(server.host, ProcessHost):
        pid = server.host.process.pid
    return pid if pid and psutil.pid_exists(pid) else None


def _pin(server: Server, cores: list[int]) -> None:
    if not cores:
        return
    if isinstance(server.host, ContainerHost):
        server.host.wrapped.update(cpuset_cpus=",".join(map(str, cores)))
    elif isinstance(server.host, ProcessHost):
        psutil.Process(server.host.process.pid).cpu_affinity(cores)


def _kafka_answers(address: str) -> bool:
    try:
        return asyncio.run(probe_kafka({"bootstrap_servers": address}, PROBE_TIMEOUT_S)) > 0
    except KafkaSilent:
        return False


async def _delete_topics(address: str, word: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        mine = [name for name in await admin.list_topics() if word in name]
        if mine:
            await admin.delete_topics(mine)
    finally:
        await admin.close()
