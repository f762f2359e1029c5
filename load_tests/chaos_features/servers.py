"""A broker to kill, and a store that forgets its last seconds as one that lost its power does."""

import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import redis

from tests.live.kafka_maven import kafka_from_maven
from tests.live.servers import (
    PROXIED,
    ContainerHost,
    Door,
    Host,
    ProcessHost,
    Server,
    Unavailable,
    answering,
    kafka_in_docker,
    redis_embedded,
    redis_on_path,
)

KEPT_SAMPLES = 2_000
SAMPLE_S = 0.02
TORN_MAX_BYTES = 400  # a cut within a commit's commands, as often as between two commits
COMMIT_IN_FILE = re.compile(rb":meta\r\n\$6\r\noffset\r\n")
STATE_IN_FILE = re.compile(rb"\{\d+\}:s:")


@dataclass(frozen=True)
class Loss:
    """What a store lost.

    Attributes:
        seconds: From the last byte kept to the end.
        commits: Commits that were acknowledged and are gone.
        states: Written states that are gone.
    """

    seconds: float
    size_bytes: int
    commits: int
    states: int


@dataclass(frozen=True)
class Sample:
    """How long an append-only file was at a time."""

    at_s: float
    path: Path
    size_bytes: int


@dataclass
class LossyRedis:
    """A Redis with an append-only file in a folder of ours, whose end can be cut off."""

    server: Server
    folder: Path
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=KEPT_SAMPLES))

    @property
    def host(self) -> Host:
        assert self.server.host is not None
        return self.server.host

    def newest_file(self) -> Path:
        """Return the append-only file that is written to now."""
        files = list((self.folder / "appendonlydir").glob("*.incr.aof"))
        return max(files, key=lambda path: int(path.name.split(".")[-3]))

    def look(self) -> None:
        """Remember how long the append-only file is now."""
        with suppress(OSError, ValueError):  # no file yet, or replaced under our eyes
            path = self.newest_file()
            self.samples.append(Sample(time.monotonic(), path, path.stat().st_size))

    def lose(self, seconds: float, draw: random.Random) -> Loss:
        """Kill the server, cut what it wrote in its last seconds, start it; return what is gone.

        The file is cut where it ended so long ago or up to `TORN_MAX_BYTES` further on, so mostly
        in the midst of a commit: the server must undo what stands there of it.
        """
        self.host.kill()
        now_s = time.monotonic()
        path = self.newest_file()
        data = path.read_bytes()
        kept = [s for s in list(self.samples) if s.path == path and s.at_s <= now_s - seconds]
        cut, since_s = (kept[-1].size_bytes, kept[-1].at_s) if kept else (0, now_s - seconds)
        cut = min(len(data), cut + draw.randrange(TORN_MAX_BYTES))
        gone = data[cut:]
        with path.open("r+b") as file:
            file.truncate(cut)
        self.host.start()
        answering(self.server)
        commits, states = len(COMMIT_IN_FILE.findall(gone)), len(STATE_IN_FILE.findall(gone))
        return Loss(now_s - since_s, len(gone), commits, states)


@contextmanager
def a_kafka(folder: Path, doors: Sequence[Door] = ()) -> Iterator[Server]:
    """Run an Apache Kafka: a container, else the one from Maven Central.

    Raises:
        Unavailable: Neither can be had here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    container = partial(kafka_in_docker, proxied=PROXIED, doors=doors)
    server = _first([container, partial(kafka_from_maven, doors=doors)], folder)
    try:
        yield server
    finally:
        assert server.host is not None
        server.host.remove()


@contextmanager
def a_lossy_redis(folder: Path) -> Iterator[LossyRedis]:
    """Run a Redis (on the path, else the embedded Valkey), and watch its append-only file."""
    folder.mkdir(parents=True, exist_ok=True)
    made = LossyRedis(_first([redis_on_path, redis_embedded], folder), folder)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_S):
            made.look()

    watcher = threading.Thread(target=watch, name="append-only file", daemon=True)
    try:
        answering(made.server)
        watcher.start()
        yield made
    finally:
        done.set()
        made.host.remove()


def client_of(server: Server) -> redis.Redis:
    """Return a client that gives up soon."""
    return redis.Redis.from_url(server.address, socket_timeout=2, socket_connect_timeout=2)


def _first(launchers: list[Callable[[Path], Server]], folder: Path) -> Server:
    reasons = []
    for launch in launchers:
        try:
            return launch(folder)
        except Unavailable as reason:
            reasons.append(str(reason))
    raise Unavailable("; ".join(reasons))


def broker_log(server: Server) -> str:
    """Return what a broker of ours has said."""
    if isinstance(server.host, ContainerHost):
        return bytes(server.host.wrapped.logs()).decode(errors="replace")
    assert isinstance(server.host, ProcessHost)
    return server.host.log.read_text(errors="replace")
