"""Connections of redis-py, with what they lack: quick to write, honest when they are closed."""

from collections.abc import Iterable
from typing import Any

import hiredis
from redis.asyncio import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionLost

UNSENT_MAX_BYTES = 64 * 1024  # of one connection, before a writer waits


class Cluster(RedisCluster):
    """Knows its nodes before it sends anything.

    The library looks for a command's node before it has asked for the slots, and so sends what
    comes first to nodes at random; five who are told `MOVED` then close the connections of all,
    and of many first commands at once most fail (seen with redis-py 8.1.0).
    """

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Send one command to the node of its key."""
        await self.initialize()
        return await super().execute_command(*args, **kwargs)

    async def _determine_slot(self, command: str, *args: Any) -> int:
        """Find the keys of a read-only script where `EVAL` has them; the library would ask."""
        known = "EVAL" if command == "EVAL_RO" else command
        slot: int = await super()._determine_slot(known, *args)
        return slot


class Packing(AbstractConnection):
    """Packs commands with hiredis: the library's own loop took a sixth of a worker's time."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command in Redis' protocol; its name may be several words, as in redis-py."""
        if isinstance(args[0], str) and " " in args[0]:
            args = (*args[0].split(), *args[1:])
        return [hiredis.pack_command(args)]

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Write; wait only where much is unsent: the library starts a task for every write."""
        writer = self._writer
        if writer is None or self.health_check_interval or isinstance(command, str):
            await super().send_packed_command(command, check_health)
            return
        writer.write(command if isinstance(command, bytes) else b"".join(command))
        if writer.transport.get_write_buffer_size() > UNSENT_MAX_BYTES:
            await super().send_packed_command([], check_health=False)


def packing(kind: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return the kind of connection (TCP, TLS, socket file) that packs with hiredis."""
    return type(f"Packing{kind.__name__}", (Packing, kind), {})


class Telling(AbstractConnection):
    """Says that it was closed: the cluster client closes all when a command of any fails.

    One that is just being sent would end with an `AttributeError` (seen with redis-py 8.1.0).
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Write; a connection that another task closed meanwhile is a lost one."""
        try:
            await super().send_packed_command(command, check_health)
        except AttributeError as error:
            if self._writer is not None:
                raise
            raise ConnectionLost("closed while a command was sent") from error


def telling(client: RedisCluster) -> RedisCluster:
    """Let all connections of a cluster's client say when they were closed."""
    kind = client.connection_kwargs["connection_class"]
    telling = type(f"Telling{kind.__name__}", (Telling, kind), {})
    client.connection_kwargs["connection_class"] = telling
    for node in client.nodes_manager.startup_nodes.values():
        node.connection_class = telling
    return client
