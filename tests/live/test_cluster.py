"""A featurize worker on a Redis Cluster: slots on three nodes, and a node that fails over."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError

from features.client_redis import connect_redis
from features.store import StoreUnavailable
from tests.fakes_featurize import expected_states
from tests.live.featurizing import SETTLED_S, Stage, produce, staged, wait_until_opened
from tests.live.redis_cluster import Cluster, Node, a_cluster
from tests.live.running import UPDATES_PARTITIONS

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

PREFIX = "cluster:"
EVENTS = 1_500
PAUSE_S = 0.05  # after every 40 events, so that the replica is cut off in their midst


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with a_cluster(tmp_path / "nodes", replicated=True) as made:
        yield made


@pytest.fixture
async def stage(
    kafka_bootstrap: str, cluster: Cluster, topic_prefix: str, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with staged(
        kafka_bootstrap, cluster.url, topic_prefix, PREFIX, tmp_path, cluster=True
    ) as made:
        yield made


def offset_of(node: Node, partition: int) -> int:
    """Return where a partition stands, as this node knows it: it may be a replica."""
    return int(node.ask("HGET", f"{PREFIX}0:{{{partition}}}:meta", "offset") or 0)


async def eventually(stage: Stage, what: str, true: object) -> None:
    deadline = time.monotonic() + SETTLED_S
    assert callable(true)
    while not true():
        assert time.monotonic() < deadline, f"in vain: {what}"
        await asyncio.sleep(0.05)


async def test_states_on_three_nodes_are_those_of_the_log(stage: Stage, cluster: Cluster) -> None:
    with stage.running() as worker:
        await produce(stage, random.Random(11), EVENTS, 0)
        logs = await stage.logs()
        await stage.settle(logs, worker)
        expected = expected_states(stage.spec, logs, stage.layout)
        assert await stage.states(list(expected)) == expected
    owners = {cluster.owner_of(b"{%d}" % p) for p in range(UPDATES_PARTITIONS)}
    assert owners == {0, 1, 2}
    assert all(node.ask("DBSIZE") > 0 for node in cluster.primaries)


async def test_a_commit_that_was_not_replicated_goes_back_with_its_offset(
    stage: Stage, cluster: Cluster
) -> None:
    mine = [p for p in range(UPDATES_PARTITIONS) if cluster.owner_of(b"{%d}" % p) == 1]
    primary, replica = cluster.primaries[1], cluster.replicas[1]
    with stage.running() as worker:
        await wait_until_opened(stage, worker)
        sending = asyncio.create_task(produce(stage, random.Random(12), EVENTS, PAUSE_S))
        await eventually(
            stage, "each partition has commits", lambda: all(offset_of(primary, p) for p in mine)
        )
        primary.ask("ACL", "SETUSER", "default", "-psync", "-sync")
        primary.ask("CLIENT", "KILL", "TYPE", "replica")
        await sending
        await stage.settle(await stage.logs(), worker)
        assert all(offset_of(primary, p) > offset_of(replica, p) > 0 for p in mine)

        primary.host.kill()
        await eventually(
            stage, "the replica is promoted", lambda: replica.ask("ROLE")[0] == b"master"
        )
        await settle_again(stage)
        assert worker.poll() is None, stage.log.read_text()[-4000:]
    assert "partition.reopened" in stage.log.read_text()


async def test_a_connection_that_another_task_closes_is_a_lost_one(cluster: Cluster) -> None:
    client = connect_redis(cluster.url, cluster=True)
    assert isinstance(client, RedisCluster)
    await client.initialize()
    connection = client.get_default_node().acquire_connection()
    await connection.connect()
    connection.check_health = connection.disconnect  # between the look and the write
    with pytest.raises(RedisConnectionError, match="closed while"):
        await connection.send_packed_command(b"PING", check_health=True)
    await client.aclose()


async def settle_again(stage: Stage) -> None:
    """Wait until states are whole after a failover, in which readers fail for a while."""
    deadline = time.monotonic() + SETTLED_S
    expected = expected_states(stage.spec, await stage.logs(), stage.layout)
    while True:
        try:
            found = await stage.states(list(expected))
        except StoreUnavailable as error:
            trouble = str(error)
        else:
            wrong = [key for key in expected if found[key] != expected[key]]
            if not wrong:
                return
            trouble = f"{len(wrong)} of {len(expected)} states differ"
        assert time.monotonic() < deadline, f"{trouble}: {stage.log.read_text()[-4000:]}"
        await asyncio.sleep(0.2)
