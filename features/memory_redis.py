"""Redis → how much of its memory is used, and how much it may use."""

from typing import Any, NamedTuple

from redis.asyncio import RedisCluster
from redis.exceptions import RedisError

from features.client_redis import Client
from features.store import StoreUnavailable


class StoreMemory(NamedTuple):
    """Memory of one server.

    Attributes:
        max_bytes: Its `maxmemory`; where that is not set, the memory of its machine.
    """

    used_bytes: int
    max_bytes: int


async def read_memory(client: Client) -> StoreMemory:
    """Return the memory of the server; of a cluster, of its fullest primary.

    Raises:
        StoreUnavailable: No answer came, or this user may not ask.
    """
    try:
        if isinstance(client, RedisCluster):
            answer = await client.info("memory", target_nodes=RedisCluster.PRIMARIES)
        else:
            answer = await client.info("memory")
    except (RedisError, OSError) as error:
        raise StoreUnavailable("refused", f"INFO memory: {error}") from error
    servers: list[dict[str, Any]] = [answer]
    if "used_memory" not in answer:  # one answer by node
        servers = list(answer.values())
    return max(map(_memory_of, servers), key=lambda one: one.used_bytes / one.max_bytes)


def _memory_of(info: dict[str, Any]) -> StoreMemory:
    limit = int(info["maxmemory"]) or int(info["total_system_memory"])
    return StoreMemory(int(info["used_memory"]), limit)
