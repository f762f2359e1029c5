"""A Redis Cluster on loopback, of processes that we start: three nodes, and replicas if asked."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from riskbeat.embedded import valkey_binary
from riskbeat.ports import LOOPBACK, free_ports
from tests.live.servers import ProcessHost, wait_until

SLOTS = 16_384
PRIMARIES = 3
READS = ("HGET",)
NODE_TIMEOUT_MS = 1_000  # after so long without an answer a node is voted dead


@dataclass(frozen=True)
class Node:
    """One server of a cluster."""

    port: int
    bus_port: int
    host: ProcessHost

    def ask(self, *command: Any) -> Any:
        """Run a command on this node; a replica answers from what it has."""
        with redis.Redis(LOOPBACK, self.port, socket_timeout=5) as client:
            if command[0] in READS:
                client.execute_command("READONLY")
            return client.execute_command(*command)

    def info(self) -> dict[str, str]:
        """Return `CLUSTER INFO`, empty while the node does not answer."""
        try:
            lines = self.ask("CLUSTER", "INFO").decode().split()
        except redis.RedisError:
            return {}
        return dict(line.split(":", 1) for line in lines)


@dataclass(frozen=True)
class Cluster:
    """Primaries, each with a third of the slots, and as many replicas or none."""

    primaries: list[Node]
    replicas: list[Node]

    @property
    def url(self) -> str:
        """The URL of one node; clients find the others by it."""
        return f"redis://{LOOPBACK}:{self.primaries[0].port}/0"

    @property
    def nodes(self) -> list[Node]:
        return [*self.primaries, *self.replicas]

    def owner_of(self, key: bytes) -> int:
        """Return which primary is responsible for a key."""
        return min(key_slot(key) * PRIMARIES // SLOTS, PRIMARIES - 1)


@contextmanager
def a_cluster(folder: Path, *, replicated: bool = False) -> Iterator[Cluster]:
    """Run a cluster by `redis-server` on the path, else by the embedded Valkey."""
    count = PRIMARIES * (2 if replicated else 1)
    ports = free_ports(2 * count)
    nodes: list[Node] = []
    try:
        for port, bus_port in zip(ports[:count], ports[count:], strict=True):
            nodes.append(_a_node(folder / str(port), port, bus_port))
        cluster = Cluster(nodes[:PRIMARIES], nodes[PRIMARIES:])
        _join(cluster)
        yield cluster
    finally:
        for node in nodes:
            node.host.remove()


def _a_node(folder: Path, port: int, bus_port: int) -> Node:
    folder.mkdir(parents=True)
    binary = shutil.which("redis-server") or str(valkey_binary())
    settings = {
        "bind": LOOPBACK,
        "port": port,
        "cluster-enabled": "yes",
        "cluster-port": bus_port,
        "cluster-node-timeout": NODE_TIMEOUT_MS,
        "cluster-replica-validity-factor": 0,
        "dir": folder,
        "save": "",
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return Node(port, bus_port, ProcessHost([binary, *flags], folder / "node.log"))


def _join(cluster: Cluster) -> None:
    first, *others = cluster.nodes
    wait_until(lambda: all(node.info() for node in cluster.nodes), "the nodes answer")
    for epoch, node in enumerate(cluster.nodes, 1):
        node.ask("CLUSTER", "SET-CONFIG-EPOCH", epoch)
    bounds = [-(-SLOTS * i // PRIMARIES) for i in range(PRIMARIES + 1)]
    for node, begin, end in zip(cluster.primaries, bounds, bounds[1:], strict=False):
        node.ask("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
    for node in others:
        first.ask("CLUSTER", "MEET", LOOPBACK, node.port, node.bus_port)

    def all_know(size: int) -> bool:
        return all(node.info().get("cluster_known_nodes") == str(size) for node in cluster.nodes)

    wait_until(lambda: all_know(len(cluster.nodes)), "the nodes know one another")
    for primary, replica in zip(cluster.primaries, cluster.replicas, strict=False):
        replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID"))
    wait_until(
        lambda: all(node.info().get("cluster_state") == "ok" for node in cluster.nodes),
        "the cluster is whole",
    )
    wait_until(lambda: all(map(_follows, cluster.replicas)), "the replicas follow")


def _follows(replica: Node) -> bool:
    return replica.ask("INFO", "replication").get("master_link_status") == "up"  # type: ignore[no-any-return]
