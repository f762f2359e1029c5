"""Chooses the broker and the Redis of the live tests, shares them, and says which they are.

Kafka, in this order: `RISKBEAT_TEST_KAFKA`; a container where Docker answers; Apache Kafka from
Maven Central where Java and Maven are; the embedded broker. Redis: `RISKBEAT_TEST_REDIS`; a
container; `redis-server` on the path; the embedded Valkey. The variable holds an address, or one of
the words `docker`, `maven`, `path`, `embedded` to ask for that kind and no other.
"""

import asyncio
import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import redis
from aiokafka.admin import AIOKafkaAdminClient
from hypothesis import settings
from pytest import TempPathFactory, TerminalReporter

from features.client_redis import Client, connect_redis
from riskbeat.access import ROLES
from riskbeat.probe_kafka import KafkaSilent, probe_kafka
from tests.live.guarded import PREFIX, Guarded
from tests.live.kafka_maven import kafka_from_maven
from tests.live.redis_cluster import Cluster, a_cluster
from tests.live.servers import (
    EMBEDDED_BROKER,
    Server,
    Unavailable,
    answering,
    kafka_embedded,
    kafka_in_docker,
    redis_embedded,
    redis_in_docker,
    redis_on_path,
    wait_until,
)

settings.register_profile("riskbeat", deadline=None)  # a busy machine is not a wrong answer
settings.load_profile("riskbeat")

PROBE_TIMEOUT_S = 5.0
Launcher = Callable[[Path], Server]
RedisOf = Callable[[str], tuple[Callable[[], Client], str]]
CONTRACT_PARAMS = [
    "memory",
    pytest.param("redis", marks=pytest.mark.live),
    pytest.param("cluster", marks=pytest.mark.live),
]
UNDER_RIGHTS_OF = {role: pytest.param(role, marks=pytest.mark.live) for role in ROLES}
KAFKAS: dict[str, Launcher] = {
    "docker": kafka_in_docker,
    "maven": kafka_from_maven,
    "embedded": kafka_embedded,
}
REDISES: dict[str, Launcher] = {
    "docker": redis_in_docker,
    "path": redis_on_path,
    "embedded": redis_embedded,
}
_used: dict[str, str] = {}


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    for kind, what in _used.items():
        terminalreporter.write_line(f"live tests ran on {kind}: {what}")


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: TempPathFactory) -> Iterator[Server]:
    server = _choose("RISKBEAT_TEST_KAFKA", KAFKAS, tmp_path_factory.mktemp("kafka"))
    try:
        wait_until(lambda: kafka_answers(server.address), f"{server.what} answers")
        _used["Kafka"] = f"{server.what} ({server.address})"
        yield server
    finally:
        _remove(server)


@pytest.fixture(scope="session")
def redis_store(tmp_path_factory: TempPathFactory) -> Iterator[Server]:
    server = _choose("RISKBEAT_TEST_REDIS", REDISES, tmp_path_factory.mktemp("redis"))
    try:
        answering(server)
        _used["Redis"] = f"{server.what} ({server.address})"
        yield server
    finally:
        _remove(server)


@pytest.fixture(autouse=True)
def _apache(request: pytest.FixtureRequest) -> None:
    """Skip what asks for Apache Kafka where only the embedded broker is to be had."""
    if request.node.get_closest_marker("apache"):
        broker: Server = request.getfixturevalue("kafka_broker")
        if broker.what == EMBEDDED_BROKER:
            pytest.skip("the embedded broker waits forever for a member that was killed")


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_broker: Server) -> str:
    """`host:port` of the broker that all live tests share; use `topic_prefix`."""
    return kafka_broker.address


@pytest.fixture(scope="session")
def redis_url(redis_store: Server) -> str:
    """URL of the Redis that all live tests share; use `redis_prefix`."""
    return redis_store.address


@pytest.fixture
def topic_prefix(kafka_broker: Server) -> Iterator[str]:
    """A prefix for this test's topics; on a broker that is not ours they are deleted."""
    prefix = f"t{uuid.uuid4().hex[:12]}."
    yield prefix
    if kafka_broker.host is None:
        asyncio.run(_delete_topics(kafka_broker.address, prefix))


@pytest.fixture
def redis_prefix(redis_store: Server) -> Iterator[str]:
    """A prefix for this test's keys; they are deleted."""
    prefix = f"t{uuid.uuid4().hex[:12]}:"
    yield prefix
    with redis.Redis.from_url(redis_store.address) as client:
        for key in client.scan_iter(f"{prefix}*", count=1000):
            client.unlink(key)


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: TempPathFactory) -> Iterator[Cluster]:
    """A Redis Cluster of three nodes on loopback, shared by all tests that ask for it."""
    with a_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        _used["Redis Cluster"] = f"{len(cluster.nodes)} nodes ({cluster.url})"
        yield cluster


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: TempPathFactory) -> Iterator[Guarded]:
    """A store with a user for every process; shared, and emptied by who asks for `redis_of`."""
    server = Guarded(tmp_path_factory.mktemp("guarded"))
    try:
        yield server
    finally:
        server.host.remove()


@pytest.fixture
def redis_of(request: pytest.FixtureRequest) -> RedisOf:
    """Names a kind of Redis → (makes clients of it, a prefix of the test's).

    What a contract suite is run on; nothing is started before it is asked for. Kinds are `redis`,
    `cluster`, and the roles of `riskbeat.access`: one store, with the rights of that process.
    """

    guests = set[str]()

    def choose(kind: str) -> tuple[Callable[[], Client], str]:
        if kind == "cluster":
            cluster: Cluster = request.getfixturevalue("redis_cluster")
            return partial(connect_redis, cluster.url, cluster=True), f"t{uuid.uuid4().hex[:12]}:"
        if kind in ROLES:
            server: Guarded = request.getfixturevalue("guarded")
            if not guests:
                request.addfinalizer(lambda: _empty(server))
            guests.add(kind)
            return partial(connect_redis, server.url(kind)), PREFIX
        url = request.getfixturevalue("redis_url")
        return partial(connect_redis, url), request.getfixturevalue("redis_prefix")

    return choose


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[Server]:
    """A Redis of this test's own, with an append-only file, to stop, kill, pause and restart.

    After `host.start()` or `host.resume()` wait with `answering(server)`.
    """
    kind = os.environ.get("RISKBEAT_TEST_REDIS", "")
    asked = kind if kind in REDISES else ""
    server = _first(REDISES if not asked else {asked: REDISES[asked]}, tmp_path)
    try:
        yield answering(server)
    finally:
        _remove(server)


def _empty(server: Guarded) -> None:
    with redis.Redis.from_url(server.url("operate")) as client:
        for key in client.scan_iter(f"{PREFIX}*"):
            client.unlink(key)


def _choose(variable: str, launchers: dict[str, Launcher], folder: Path) -> Server:
    asked = os.environ.get(variable, "")
    if asked in launchers:
        return launchers[asked](folder)
    if asked:
        return Server(asked, f"{variable}")
    return _first(launchers, folder)


def _first(launchers: dict[str, Launcher], folder: Path) -> Server:
    reasons = []
    for launch in launchers.values():
        try:
            return launch(folder)
        except Unavailable as reason:
            reasons.append(str(reason))
    raise Unavailable("; ".join(reasons))


def _remove(server: Server) -> None:
    if server.host is not None:
        server.host.remove()


def kafka_answers(address: str) -> bool:
    try:
        return asyncio.run(probe_kafka({"bootstrap_servers": address}, PROBE_TIMEOUT_S)) > 0
    except KafkaSilent:
        return False


async def _delete_topics(address: str, prefix: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        mine = [name for name in await admin.list_topics() if name.startswith(prefix)]
        if mine:
            await admin.delete_topics(mine)
    finally:
        await admin.close()
