"""requests that came on one connection → their answers, in the order of the requests.

Hot requests are worked on side by side, up to a bound; a cold one is handed to uvicorn's protocol
when all before it are answered, and what follows it waits.
"""

import asyncio
from collections import deque
from functools import partial
from typing import Any, Protocol

from api.door_behind_http import Behind
from api.door_exchange import CONTINUE, Encoder, Exchange
from api.errors import Answer, Draining, Overloaded, problem_of
from api.route import Request, Route, Table


class Peer(Protocol):
    """The connection that a line stands on.

    Attributes:
        transport: Where answers go; None before it is known.
        ended: Whether nothing more is written.
        leaving: Whether the last answer in line should be the connection's last.
    """

    transport: Any
    ended: bool

    @property
    def leaving(self) -> bool:
        """See above."""

    def end(self, lingers: bool) -> None:
        """Write no more and close; first, if it lingers, throw away for a while what comes."""

    def deafen(self) -> None:
        """Take no more requests."""

    def hold(self) -> None:
        """Read no more for now."""

    def release(self) -> None:
        """Read on, unless something stands against it."""

    def refused(self, began: float) -> None:
        """A request whose head was complete at `began` was refused because too many wait."""

    def rest(self) -> None:
        """All that was asked is answered."""


class Line:
    """The exchanges of one connection.

    Attributes:
        behind: uvicorn's protocol, once it was needed.
    """

    def __init__(
        self,
        peer: Peer,
        table: Table,
        encoder: Encoder,
        pipeline_max: int,
        loop: asyncio.AbstractEventLoop,
        wiring: dict[str, Any],
    ) -> None:
        """Stand empty."""
        self._peer = peer
        self._table = table
        self._encoder = encoder
        self._pipeline_max = pipeline_max
        self._loop = loop
        self._wiring = wiring
        self._state = wiring["server_state"]
        self._line: deque[Exchange] = deque()
        self._unstarted: deque[Exchange] = deque()
        self._running = 0
        self.behind: Behind | None = None

    def __bool__(self) -> bool:
        """Whether something is not answered yet."""
        return bool(self._line)

    @property
    def waits(self) -> bool:
        """Whether something that was read cannot be begun yet."""
        last = self._line[-1] if self._line else None
        return bool(self._unstarted) or (last is not None and last.cold and not last.fed)

    def append(self, exchange: Exchange) -> None:
        """Take the next request; its body may still come."""
        self._line.append(exchange)

    def start(self, exchange: Exchange) -> None:
        """Work on a hot request that was read to its end, now or after those at work."""
        if self._running < self._pipeline_max:
            self._begin(exchange)
        else:
            self._unstarted.append(exchange)
            self._peer.hold()

    def lose(self, exc: Exception | None) -> None:
        """Nobody hears the answers any more."""
        for exchange in self._line:
            if exchange.begun is not None:
                exchange.begun.withdraw()
        if self.behind is not None:
            self.behind.connection_lost(exc)

    def _begin(self, exchange: Exchange) -> None:
        route = exchange.route
        assert route is not None
        self._running += 1
        parts = exchange.parts
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        request = Request(exchange.head, body, exchange.principal, exchange.deadline_at)
        try:
            if route.begin is not None:
                exchange.begun = route.begin(request, partial(self._answered, exchange))
                return
        except Exception as error:  # the top of the request
            self._answered(exchange, error)
            return
        task = self._loop.create_task(_serve(route, request))
        self._state.tasks.add(task)
        task.add_done_callback(partial(self._served, exchange))

    def _served(self, exchange: Exchange, task: asyncio.Task[Answer | Exception]) -> None:
        self._state.tasks.discard(task)
        if task.cancelled():
            self._answered(exchange, Draining("this process stopped meanwhile"))
        else:
            self._answered(exchange, task.result())

    def _answered(self, exchange: Exchange, answer: Answer | Exception) -> None:
        self._running -= 1
        self.reply(exchange, answer)
        while self._unstarted and self._running < self._pipeline_max and not self._peer.ended:
            self._begin(self._unstarted.popleft())

    def reply(self, exchange: Exchange, answer: Answer | Exception) -> None:
        """Encode an answer, and write it when its turn comes."""
        if self._peer.ended or exchange.out is not None:
            return
        fault: Exception | None = None
        if isinstance(answer, Exception):
            fault, answer = answer, problem_of(answer)
            if answer.status == 500:  # answered; now let ours be heard
                self._loop.call_exception_handler({"message": "a request", "exception": fault})
        if exchange is self._line[-1] and self._peer.leaving:
            exchange.closes = True
            self._peer.deafen()
        exchange.out = self._encoder.encode(
            answer,
            self._state.default_headers,
            exchange.echo,
            exchange.closes,
            exchange.head.method == "HEAD",
        )
        self._state.total_requests += 1
        self._table.observe(exchange.route, answer, exchange.began)
        self.turn()
        if isinstance(fault, Overloaded):
            self._peer.refused(exchange.began)

    def turn(self) -> None:
        """Write what is ready and whose turn it is; a cold request is handed on at its turn."""
        out: list[bytes] = []
        line = self._line
        while line and not self._peer.ended:
            first = line[0]
            if first.cold:
                if not first.fed:
                    self._write(out)
                    out = []
                    self._hand_on(first)
            elif first.out is None:
                if first.wants_continue and not first.whole:
                    out.append(CONTINUE)
                    first.wants_continue = False
            elif not first.written:
                out.append(first.out)
                first.written = True
            if not first.written:
                break
            if first.closes and not first.cold:
                self._write(out)
                self._peer.end(lingers=not first.whole)
                return
            if not first.whole:
                break
            line.popleft()
        self._write(out)
        if self._peer.ended:
            return
        if not line:
            self._peer.rest()
        self._peer.release()

    def _write(self, out: list[bytes]) -> None:
        if out:
            self._peer.transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _hand_on(self, exchange: Exchange) -> None:
        """Give a cold request to uvicorn's protocol, with what was read of it."""
        if self.behind is None:
            self.behind = Behind(self._cold_answered, **self._wiring, _loop=self._loop)
            self.behind.connection_made(self._peer.transport)
        exchange.fed = True
        parts, exchange.parts = exchange.parts, []
        for part in parts:
            self.behind.data_received(part)
        if self._peer.leaving and self.behind.answering:
            self.behind.shutdown()

    def pass_on(self, exchange: Exchange, chunk: bytes, piece: bytes) -> None:
        """Give a piece of a cold body on, framed as it came, or keep it until its turn."""
        part = chunk if exchange.chunked else piece
        if exchange.fed and self.behind is not None:
            self.behind.data_received(part)
        elif part:
            exchange.parts.append(part)
            self._peer.hold()

    def _cold_answered(self) -> None:
        """The cold request whose turn it was is answered."""
        if self._line and self._line[0].fed:
            self._line[0].written = True
            self.turn()


async def _serve(route: Route, request: Request) -> Answer | Exception:
    try:
        return await route.serve(request)
    except Exception as error:  # the top of the request
        return error
