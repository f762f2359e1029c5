"""A client of Redis, Valkey or a Redis Cluster, whose failures have one name.

Everything of ours that talks to Redis goes through `RedisLink`: it runs scripts by digest, and
turns whatever the library raises into `StoreUnavailable`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import lru_cache
from hashlib import sha1
from typing import Any, TypeVar, cast

import hiredis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    NoScriptError,
    RedisError,
    ResponseError,
)

from features.connections_redis import Cluster, packing, telling
from features.lane_redis import Lane
from features.login_redis import AskedLogin, Login, without_login
from features.pipe_redis import Pipe
from features.store import StoreUnavailable

REDIS_TIMEOUT_S = 5.0
REDIS_MAX_CONNECTIONS = 64
LOAD_MAX_KEYS = 2_000
SCAN_COUNT = 1_000

T = TypeVar("T")
Client = Redis | RedisCluster


def connect_redis(
    url: str,
    *,
    cluster: bool = False,
    timeout_s: float = REDIS_TIMEOUT_S,
    max_connections: int = REDIS_MAX_CONNECTIONS,
    retries: int = 0,
    login: Login | None = None,
) -> Client:
    """Return a client; nothing is connected before its first command.

    Args:
        url: `redis://`, `rediss://` (TLS) or `unix://`, with ACL user and password in it.
        cluster: Whether the URL names one node of a Redis Cluster.
        timeout_s: Longest wait for one answer, and for one connection.
        max_connections: Bound of the pool (per node on a cluster).
        retries: How often a command is sent again after a broken connection: 0 for writers,
            whose compare-and-set must be judged by its first answer.
        login: Asked for user and password by every new connection, in place of those in `url`.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "max_connections": max_connections,
        "decode_responses": False,
        "retry": Retry(NoBackoff(), retries),
    }
    if login is not None:
        url, options["credential_provider"] = without_login(url), AskedLogin(login)
    if cluster:
        return telling(Cluster.from_url(url, **options))
    client = Redis.from_url(url, **options)
    pool = client.connection_pool
    pool.connection_class = packing(pool.connection_class)
    return client


@lru_cache(maxsize=64)
def _digest(script: str) -> str:
    return sha1(script.encode(), usedforsecurity=False).hexdigest()


def _asks_once(client: Redis) -> bool:
    """Return whether a command is sent once and never again, as writers must."""
    retry = client.connection_pool.connection_kwargs.get("retry")
    return isinstance(retry, Retry) and retry.get_retries() == 0


class RedisLink:
    """Sends commands and scripts over a client.

    Every method raises `StoreUnavailable` when no good answer came in time.
    """

    def __init__(self, client: Client, *, piped: bool = False) -> None:
        """Hold a client from `connect_redis`.

        Args:
            client: Of one server, or of a cluster.
            piped: Whether all askers share one connection (of one server), so that what waits
                together rides together. Not for writers whose answers may be large or slow.
        """
        self.client = client
        self.cluster = isinstance(client, RedisCluster)
        self._lane: Lane | Pipe | None = None
        if isinstance(client, Redis) and piped:
            self._lane = Pipe(client)
        elif isinstance(client, Redis) and _asks_once(client):
            self._lane = Lane(client)

    async def ask(self, command: Awaitable[T]) -> T:
        """Await one command of the client."""
        try:
            return await command
        except NoScriptError:
            raise
        except ResponseError as error:
            raise StoreUnavailable("refused", str(error)) from error
        except (RedisError, OSError, TimeoutError) as error:
            kind = "timeout" if "imeout" in type(error).__name__ else "connection"
            raise StoreUnavailable(kind, str(error) or type(error).__name__) from error

    async def _command(self, *args: Any) -> Any:
        """Send one command that names its keys."""
        if self._lane is None:
            return await self.ask(self.client.execute_command(*args))
        return await self.ask(self._one(self._lane, args))

    async def send_many(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands that each name their key; a refused one's answer is its error."""
        if self._lane is not None:
            packed = b"".join(map(hiredis.pack_command, commands))
            return await self.ask(self._lane.exchange(packed, len(commands)))
        pipeline = self.client.pipeline(transaction=False)
        for command in commands:  # the library reads `SET … GET` by this option alone
            options = {"get": True} if "GET" in command else {}
            pipeline.execute_command(*command, **options)
        return list(await self.ask(pipeline.execute(raise_on_error=False)))

    async def _one(self, lane: Lane | Pipe, args: tuple[Any, ...]) -> Any:
        (answer,) = await lane.exchange(hiredis.pack_command(args), 1)
        if isinstance(answer, Exception):  # a server that loads its file answers that it does
            raise answer
        return answer

    async def get(self, key: bytes) -> bytes | None:
        """Return the string at a key."""
        return cast(bytes | None, await self._command("GET", key))

    async def set(self, key: bytes, value: bytes, *options: str) -> None:
        """Set the string at a key; `options` as in `SET key value NX`."""
        await self._command("SET", key, value, *options)

    async def get_many(self, names: Sequence[bytes]) -> list[bytes]:
        """Return the strings at keys of one hash tag, `b""` for absent ones, by slices."""
        slices = [names[i : i + LOAD_MAX_KEYS] for i in range(0, len(names), LOAD_MAX_KEYS)]
        return [data for part in slices for data in await self.get_together(part)]

    async def get_together(self, names: Sequence[bytes]) -> list[bytes]:
        """Return the strings at keys, `b""` for absent ones, all as of one moment."""
        found = await self._command("MGET", *names)
        return [data or b"" for data in cast(list[bytes | None], found)]

    async def run(self, script: str, keys: Sequence[bytes], args: Sequence[bytes]) -> list[bytes]:
        """Run a Lua script by its digest, and by its text where the server does not know it."""
        count = len(keys)
        try:
            answer = await self._command("EVALSHA", _digest(script), count, *keys, *args)
        except NoScriptError:
            answer = await self._command("EVAL", script, count, *keys, *args)
        return cast(list[bytes], answer)

    async def run_many(
        self, script: str, calls: Sequence[tuple[Sequence[bytes], Sequence[bytes]]]
    ) -> list[list[bytes] | StoreUnavailable]:
        """Run a script for each (keys, args), in one round trip where one server has all keys.

        Raises:
            StoreUnavailable: No answer at all; on a cluster each call has its own.
        """
        if self.cluster or len(calls) == 1:
            return list(await asyncio.gather(*(self._try(script, *call) for call in calls)))
        digest = _digest(script)
        commands: list[tuple[Any, ...]] = [
            ("EVALSHA", digest, len(keys), *keys, *args) for keys, args in calls
        ]
        answers = await self.send_many(commands)
        return [
            await self._try(script, *call)
            if isinstance(answer, NoScriptError)  # refused before anything was written
            else StoreUnavailable("refused", str(answer))
            if isinstance(answer, Exception)
            else cast(list[bytes], answer)
            for call, answer in zip(calls, answers, strict=True)
        ]

    async def _try(
        self, script: str, keys: Sequence[bytes], args: Sequence[bytes]
    ) -> list[bytes] | StoreUnavailable:
        try:
            return await self.run(script, keys, args)
        except StoreUnavailable as error:
            return error

    async def scan(self, pattern: bytes) -> AsyncIterator[bytes]:
        """Yield every key that matches a pattern, on every node; some may come twice."""
        try:
            async for key in self.client.scan_iter(match=pattern, count=SCAN_COUNT):
                yield key
        except (RedisError, OSError) as error:
            raise StoreUnavailable("connection", str(error)) from error

    async def unlink(self, keys: Sequence[bytes]) -> int:
        """Delete keys of one hash tag; return how many there were."""
        return cast(int, await self.ask(self.client.execute_command("UNLINK", *keys)))

    async def hash_items(self, key: bytes) -> dict[bytes, bytes]:
        """Return the fields of a hash; empty where there is none."""
        command = self.client.hgetall(key)
        return cast(dict[bytes, bytes], await self.ask(cast(Awaitable[Any], command)))

    async def hash_field(self, key: bytes, field: bytes) -> bytes | None:
        """Return one field of a hash."""
        return cast(bytes | None, await self.ask(self.client.execute_command("HGET", key, field)))

    async def hash_length(self, key: bytes) -> int:
        """Return the count of fields of a hash; 0 where there is none."""
        return cast(int, await self.ask(self.client.execute_command("HLEN", key)))

    async def key_bytes(self, key: bytes) -> int:
        """Return what a key takes in memory, 0 where there is none."""
        if self.cluster:  # which finds the key's node by the command's name
            command = cast(Awaitable[Any], self.client.memory_usage(key))
        else:
            command = self.client.execute_command("MEMORY", "USAGE", key)
        return int(await self.ask(command) or 0)

    async def clock_s(self) -> float:
        """Return the server's clock in seconds since 1970 (one node's, on a cluster)."""
        anywhere = {"target_nodes": RedisCluster.RANDOM} if self.cluster else {}
        answer = await self.ask(cast(Awaitable[Any], self.client.time(**anywhere)))
        seconds, micros = next(iter(answer.values())) if isinstance(answer, dict) else answer
        return float(seconds) + float(micros) / 1e6

    async def memory_of_nodes(self) -> list[dict[str, Any]]:
        """Return `INFO memory` of every node."""
        everywhere = {"target_nodes": RedisCluster.ALL_NODES} if self.cluster else {}
        command = self.client.info("memory", **everywhere)
        answer = await self.ask(command)
        return [answer] if "maxmemory_policy" in answer else list(answer.values())
