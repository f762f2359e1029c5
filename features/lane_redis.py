"""packed commands → answers: one exchange with one Redis server, and nothing around it.

The library's way to the same bytes passes a check of the socket, locks and counters of the pool, a
task for the timeout of each write, and a retry around it all. Small batches were mostly that.
"""

import asyncio
import math
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout


class Lane:
    """Connections of a client's pool that stay with us between two exchanges."""

    def __init__(self, client: Redis) -> None:
        """Hold a client of one server; nothing is connected before the first exchange."""
        self._pool = client.connection_pool
        self._timeout_s: float | None = self._pool.connection_kwargs.get("socket_timeout")
        self._idle: list[AbstractConnection] = []

    async def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send packed commands, and return their answers in order; a refused one's is its error.

        Raises:
            RedisError, OSError: No answers, or not all; what was sent may have been done.
        """
        connection = await self._take()
        try:
            async with asyncio.timeout(self._timeout_s):
                await connection.send_packed_command(packed, check_health=False)
                answers = [await _answer(connection) for _ in range(count)]
        except BaseException as error:  # cancelled, too: answers to come are of no other exchange
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
            if isinstance(error, TimeoutError):
                raise RedisTimeout(f"no answer within {self._timeout_s:g} s") from error
            raise
        self._idle.append(connection)
        return answers

    async def _take(self) -> AbstractConnection:
        """Return a connection that nobody uses, and that the server has not closed meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            if not _closed(connection):
                return connection
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
        taken: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        return taken

    def idle_closed(self) -> bool:
        """Return whether the server has closed every connection that is with us."""
        return all(_closed(connection) for connection in self._idle)


def _closed(connection: AbstractConnection) -> bool:
    reader = connection._reader
    return not connection.is_connected or reader is None or reader.at_eof()


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(timeout=math.inf)  # the exchange has one for all
    except ResponseError as error:
        return error
