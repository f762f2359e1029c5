"""Redis URL → does a server answer, and is it set up to lose nothing?"""

import asyncio
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import RedisError


class RedisSilent(ConnectionError):
    """No server answered a ping in time, or it refused us."""


@dataclass(frozen=True, slots=True)
class RedisAnswer:
    """What a server says about itself."""

    version: str
    eviction: str


async def probe_redis(url: str, timeout_s: float, *, cluster: bool = False) -> RedisAnswer:
    """Ping the server and ask for its version and eviction policy.

    Raises:
        RedisSilent: No answer within `timeout_s`, or a refusal; says which.
    """
    options: dict[str, Any] = {"socket_connect_timeout": timeout_s, "socket_timeout": timeout_s}
    try:
        async with asyncio.timeout(timeout_s):
            kind = RedisCluster if cluster else Redis
            async with kind.from_url(url, **options) as client:
                await client.ping()
                info = await client.info()
    except (RedisError, OSError, TimeoutError, ValueError) as error:
        raise RedisSilent(str(error) or "no answer") from error
    first = next(iter(info.values())) if cluster else info
    version = first.get("valkey_version") or first.get("redis_version", "unknown")
    return RedisAnswer(str(version), str(first.get("maxmemory_policy", "unknown")))
