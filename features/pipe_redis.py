"""commands of many askers → one connection, answers in order: what waits together rides together.

Everything that is asked in one turn of the event loop is one write, and one answer wakes all whom
it concerns: claims, features and kept answers of several batches share a round trip. A connection
that nobody else uses needs no pool, no task and no lock for it.
"""

import asyncio
from collections import deque
from typing import Any, NamedTuple

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as RedisTimeout

WAITING_MAX = 1_024
"""Exchanges that may wait for answers; one more finds the server too slow to be asked."""

_NOT_YET = object()


class _Waiting(NamedTuple):
    """An exchange whose answers have not all come.

    Attributes:
        since: The loop's clock when it was asked.
    """

    told: asyncio.Future[list[Any]]
    answers: int
    since: float


class Pipe:
    """One connection to one server, taken from a client's pool and kept."""

    def __init__(self, client: Redis) -> None:
        """Hold a client of one server; nothing is connected before the first exchange."""
        self._pool = client.connection_pool
        self._timeout_s: float | None = self._pool.connection_kwargs.get("socket_timeout")
        self._line: _Line | None = None
        self._connecting: asyncio.Task[_Line] | None = None

    async def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send packed commands, and return their answers in order; a refused one's is its error.

        An asker who stops waiting leaves its answers to be thrown away; the others get theirs.

        Raises:
            RedisError, OSError: No answers, or not all; what was sent may have been done.
        """
        line = self._line
        if line is None or line.closed:
            line = await self._connect()
        return await line.ask(packed, count)

    async def _connect(self) -> "_Line":
        """Return a new line; all who ask meanwhile wait for the same one, as long as they care."""
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._open())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    def _connected(self, task: asyncio.Task["_Line"]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None:
            self._line = task.result()

    async def _open(self) -> "_Line":
        before = self._line
        if before is not None:
            await before.connection.disconnect(nowait=True)
            await self._pool.release(before.connection)
            self._line = None
        taken: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        return _Line(taken, self._timeout_s)


class _Line(asyncio.Protocol):
    """Takes the place of the streams around a connection's transport."""

    def __init__(self, connection: AbstractConnection, timeout_s: float | None) -> None:
        """Take over a connection that is open and idle."""
        writer = connection._writer
        assert writer is not None
        self.connection = connection
        self.closed = False
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._transport: Any = writer.transport
        self._streams = self._transport.get_protocol()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,
            notEnoughData=_NOT_YET,
        )
        self._unsent: list[bytes] = []
        self._waiting: deque[_Waiting] = deque()
        self._answers: list[Any] = []
        self._watch: asyncio.TimerHandle | None = None
        self._transport.set_protocol(self)

    def ask(self, packed: bytes, count: int) -> asyncio.Future[list[Any]]:
        """Send with whatever else is asked in this turn; return the answers to come."""
        told = self._loop.create_future()
        if self.closed:
            told.set_exception(ConnectionLost("the connection was lost"))
            return told
        if len(self._waiting) >= WAITING_MAX:
            told.set_exception(RedisTimeout(f"{WAITING_MAX} exchanges wait for answers"))
            return told
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)
        self._waiting.append(_Waiting(told, count, self._loop.time()))
        if self._watch is None and self._timeout_s is not None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        return told

    def _flush(self) -> None:
        if not self.closed:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def data_received(self, data: bytes) -> None:
        """Give answers to those whom they are for."""
        reader = self._reader
        reader.feed(data)
        while self._waiting:
            answer = reader.gets()
            if answer is _NOT_YET:
                return
            if isinstance(answer, hiredis.PushNotification):
                continue
            self._answers.append(answer)
            if len(self._answers) == self._waiting[0].answers:
                waiting, answers = self._waiting.popleft(), self._answers
                self._answers = []
                if not waiting.told.done():
                    waiting.told.set_result(answers)

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all who wait that no answers will come."""
        self._fail(ConnectionLost(str(error) if error else "closed by the server"))
        self._streams.connection_lost(error)

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def pause_writing(self) -> None:
        """Go on: what is unsent is bounded by what may wait."""

    def resume_writing(self) -> None:
        """Go on."""

    def _look(self) -> None:
        """Give up a connection whose oldest question has waited too long."""
        self._watch = None
        if self.closed or not self._waiting or self._timeout_s is None:
            return
        left_s = self._waiting[0].since + self._timeout_s - self._loop.time()
        if left_s > 0:
            self._watch = self._loop.call_later(left_s, self._look)
            return
        self._fail(RedisTimeout(f"no answer within {self._timeout_s:g} s"))
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            told = self._waiting.popleft().told
            if not told.done():
                told.set_exception(error)
