"""One connection: requests in, answers out in the order of their requests.

A request is judged by its head (gate, method, size, deadline, load) before its body is read. What
was refused so leaves the connection open if its body can be skipped, else the refusal is the
connection's last word, and what the peer still sends is thrown away for a while: closing at once
would take the refusal from its hands.
"""

import asyncio
import select
import time
from typing import Any

from api.door_brake import Brake
from api.door_exchange import NO_HEAD, DoorLimits, Encoder, Exchange
from api.door_line_http import Line
from api.door_reader import Arrived, Reader, wire_of
from api.errors import BodyTooLarge, Overloaded, TooSlow
from api.route import Table


class Connection(asyncio.Protocol):
    """The protocol of one connection; uvicorn calls `shutdown`, the door `look`."""

    def __init__(
        self,
        table: Table,
        limits: DoorLimits,
        encoder: Encoder,
        brake: Brake,
        loop: asyncio.AbstractEventLoop,
        wiring: dict[str, Any],
    ) -> None:
        """Wait for the transport."""
        self._table = table
        self._limits = limits
        self._connections: set[Any] = wiring["server_state"].connections
        self._reader = Reader(self, limits.head_max_bytes, limits.headers_max)
        self._line = Line(self, table, encoder, limits.pipeline_max, loop, wiring)
        self.transport: Any = None
        self._current: Exchange | None = None  # whose body is being read
        self._since = 0.0  # begin of what is timed: quiet, a head, a body, lingering
        self._deaf = False  # nothing more is read
        self.ended = False  # nothing more is written
        self._draining = False
        self._held = False  # reading is paused
        self._brake = brake
        self._braked: asyncio.TimerHandle | None = None  # it was refused, and waits for its turn
        self._loop = loop
        self._stuck_since: float | None = None  # the peer takes nothing

    # what the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; one connection too many is told so."""
        self.transport = transport
        self._since = time.perf_counter()
        peer = transport.get_extra_info("peername")
        self._reader.client = str(peer[0]) if isinstance(peer, tuple) else ""
        self._connections.add(self)
        if len(self._connections) > self._limits.connections_max:
            self._fail(Overloaded("too many connections"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything; nobody hears the answers."""
        self._connections.discard(self)
        self._deaf = self.ended = True
        if self._braked is not None:
            self._braked.cancel()
        self._line.lose(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._deaf:
            return
        if not self._line and not self._reader.in_head:
            self._since = time.perf_counter()
        try:
            self._reader.feed(data)
        except Exception as error:  # the top of the connection
            if not self._deaf:  # after the last request, what follows it is nobody's
                self._fail(error)

    def eof_received(self) -> None:
        """Close: a peer that ends its half has gone, as nginx, Go and uvicorn see it, too."""

    def pause_writing(self) -> None:
        """Read no more from a peer that does not take its answers."""
        self._stuck_since = time.perf_counter()
        self.hold()
        if self._line.behind is not None:
            self._line.behind.pause_writing()

    def resume_writing(self) -> None:
        """Go on."""
        self._stuck_since = None
        if self._line.behind is not None:
            self._line.behind.resume_writing()
        self.release()

    # what the reader says

    def head_came(self, arrived: Arrived) -> None:
        """Judge a request by its head, before any of its body."""
        began = self._since = time.perf_counter()
        head = arrived.head
        route = self._table.find(head.path)
        exchange = Exchange(head, route, began, cold=route is None)
        exchange.closes = not arrived.keeps
        exchange.chunked = b"transfer-encoding" in head.headers
        self._current = exchange
        self._line.append(exchange)
        try:
            if route is None:
                _check_length(exchange, self._limits.cold_body_max_bytes)
                exchange.parts.append(wire_of(arrived))
                self._line.turn()
                return
            exchange.echo = self._table.echo(head)
            exchange.wants_continue = head.headers.get(b"expect", b"").lower() == b"100-continue"
            exchange.principal, exchange.deadline_at = self._table.admit(route, head, began)
            _check_length(exchange, route.body_max_bytes)
        except Exception as error:  # the top of the request
            exchange.cold = False
            if exchange.wants_continue or isinstance(error, BodyTooLarge):
                exchange.closes = True  # whether a body follows, and when it ends, is unknown
            self._line.reply(exchange, error)
        else:
            if exchange.wants_continue:
                self._line.turn()

    def body_came(self, piece: bytes) -> None:
        """Take a piece of a body within its limit."""
        exchange = self._current
        assert exchange is not None
        exchange.size += len(piece)
        route = exchange.route
        most = self._limits.cold_body_max_bytes
        if route is not None and exchange.out is None:  # of what is refused, more can be skipped
            most = route.body_max_bytes
        if exchange.size > most and not self.ended:
            raise BodyTooLarge(f"more than {most} bytes")
        if exchange.cold:
            self._line.pass_on(exchange, b"%x\r\n%s\r\n" % (len(piece), piece), piece)
        elif exchange.out is None:
            exchange.parts.append(piece)

    def request_ended(self) -> None:
        """A request is read; a hot one is begun now, or after those at work."""
        exchange, self._current = self._current, None
        assert exchange is not None
        exchange.whole = True
        if exchange.closes:
            self._deaf = True
        if exchange.cold:
            self._line.pass_on(exchange, b"0\r\n\r\n", b"")
        if exchange.cold or exchange.out is not None:
            self._line.turn()
        else:
            self._line.start(exchange)

    # the end

    def shutdown(self) -> None:
        """Answer what came and what is on its way, then close; uvicorn asks for this at its end."""
        self._draining = True
        self._since = time.perf_counter()
        if self._line.behind is not None and self._line.behind.answering:
            self._line.behind.shutdown()

    def look(self, now: float) -> None:
        """Close what takes too long."""
        limits = self._limits
        quiet_s = now - self._since
        if self.ended:
            if quiet_s > limits.linger_s:
                self.transport.abort()
        elif self._stuck_since is not None:
            if now - self._stuck_since > limits.write_timeout_s:
                self.transport.abort()
        elif self._held:
            return  # what is not read is not late
        elif self._reader.in_head:
            if quiet_s > limits.head_timeout_s:
                self._fail(TooSlow(f"no whole head within {limits.head_timeout_s:g} s"))
        elif self._current is not None:
            if quiet_s > limits.body_timeout_s:
                self._fail(TooSlow(f"no whole body within {limits.body_timeout_s:g} s"))
        elif not self._line:
            idle_s = limits.drain_grace_s if self._draining else limits.idle_timeout_s
            if quiet_s > idle_s and not _unread(self.transport):
                self.end(lingers=False)

    def _fail(self, error: Exception) -> None:
        """Answer what cannot be read on, in its turn, and close."""
        self._deaf = True
        exchange = self._current
        if exchange is None:
            exchange = Exchange(NO_HEAD, None, time.perf_counter())
            self._line.append(exchange)
        elif exchange.out is not None:
            exchange.closes = True
            self._line.turn()
            return
        elif exchange.fed:
            self.end(lingers=False)
            return
        exchange.cold = False
        exchange.closes = True
        self._line.reply(exchange, error)

    def end(self, lingers: bool) -> None:
        """Close once all is written; or first throw away for a while what still comes."""
        self._deaf = self.ended = True
        self._since = time.perf_counter()
        if lingers:
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self.release()
        else:
            self.transport.close()

    @property
    def leaving(self) -> bool:
        """Whether the last answer in line is the last of all."""
        return self._draining and not self._reader.in_head

    def deafen(self) -> None:
        """Take no more requests."""
        self._deaf = True

    def hold(self) -> None:
        """Read no more for now."""
        if not self._held and not self.transport.is_closing():
            self._held = True
            self.transport.pause_reading()

    def release(self) -> None:
        """Read on, unless something of what was read must wait or the peer takes nothing."""
        waits = self._line.waits or self._stuck_since is not None or self._braked is not None
        if self._held and (self.ended or not waits):
            self._held = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def refused(self, began: float) -> None:
        """Read on when it is this connection's turn among those that were refused."""
        now = time.perf_counter()
        wait_s = self._brake.turn(now, now - began) - now
        if wait_s > 0 and self._braked is None:
            self._braked = self._loop.call_later(wait_s, self._unbrake)
            self.hold()

    def _unbrake(self) -> None:
        self._braked = None
        self.release()

    def rest(self) -> None:
        """Begin to be quiet."""
        self._since = time.perf_counter()


def _check_length(exchange: Exchange, most: int) -> None:
    """Refuse a body that says that it is too large.

    Raises:
        BodyTooLarge: It does.
    """
    length = exchange.head.headers.get(b"content-length")
    if length is not None and int(length) > most:  # the parser took it as a number
        raise BodyTooLarge(f"{int(length)} bytes; at most {most} are taken")


def _unread(transport: Any) -> bool:
    """Return whether something of the peer's came that the loop has not read yet."""
    socket = transport.get_extra_info("socket")
    if socket is None or socket.fileno() < 0:
        return False
    waiting = select.poll()
    waiting.register(socket.fileno(), select.POLLIN)
    return bool(waiting.poll(0))
