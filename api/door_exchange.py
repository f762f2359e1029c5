"""answers → bytes of HTTP/1.1, and what a connection remembers of one request."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from api.errors import Answer
from api.route import ANYBODY, JSON, NO_HEADERS, Begun, Head, Principal, Route

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
NO_HEAD: Final = Head("", b"", b"", {})
_CLOSE: Final = b"connection: close\r\n"
_STATUS: Final = {
    int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus
}


class DoorLimits(NamedTuple):
    """Bounds of a connection; each has a setting `RISKBEAT_HTTP_…` or a reason.

    Attributes:
        head_max_bytes: Of request line and headers.
        headers_max: Their number.
        cold_body_max_bytes: Of a body that FastAPI's routes are given.
        pipeline_max: Requests of one connection at work at once; the next wait unread.
        head_timeout_s: From a request's first byte to the end of its head.
        body_timeout_s: From there to the end of its body.
        idle_timeout_s: Between two requests.
        write_timeout_s: A peer that takes nothing of its answers for so long is cut off.
        linger_s: A refused request's remains are read and thrown away for so long, since closing
            at once would take the refusal from the peer's hands.
        drain_grace_s: A connection that is quiet while the server stops stays open for so long:
            its peer is told to go by an answer, for what is sent just when it is closed is lost.
        connections_max: One more is answered 503 and closed.
    """

    head_max_bytes: int = 32_768
    headers_max: int = 100
    cold_body_max_bytes: int = 1_048_576
    pipeline_max: int = 64
    head_timeout_s: float = 10.0
    body_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    linger_s: float = 1.0
    drain_grace_s: float = 3.0
    connections_max: int = 10_000


class Exchange:
    """One request and its answer, in their place in the line of a connection.

    Attributes:
        route: The hot route; None: FastAPI's.
        parts: The body so far; of a cold one, what waits for its turn.
        size: Bytes of the body so far.
        whole: Whether all of the request was read.
        out: The answer's bytes, once it is known.
        written: Whether they were handed to the transport.
        closes: Whether nothing follows on this connection.
        wants_continue: Whether the peer waits for leave to send its body.
        cold: Whether it is FastAPI's.
        fed: Of a cold one: whether uvicorn has it.
        chunked: Whether its body came in chunks.
    """

    __slots__ = (
        "began",
        "begun",
        "chunked",
        "closes",
        "cold",
        "deadline_at",
        "echo",
        "fed",
        "head",
        "out",
        "parts",
        "principal",
        "route",
        "size",
        "wants_continue",
        "whole",
        "written",
    )

    def __init__(
        self, head: Head, route: Route | None, began: float, *, cold: bool = False
    ) -> None:
        """Begin with a head."""
        self.head = head
        self.route = route
        self.began = began
        self.deadline_at = began
        self.principal: Principal = ANYBODY
        self.echo: Mapping[str, str] = NO_HEADERS
        self.parts: list[bytes] = []
        self.size = 0
        self.whole = False
        self.out: bytes | None = None
        self.written = False
        self.closes = False
        self.wants_continue = False
        self.cold = cold
        self.fed = False
        self.chunked = False
        self.begun: Begun | None = None


class Encoder:
    """Writes answers; what all of one second have in common is made once."""

    def __init__(self) -> None:
        """Know no date yet."""
        self._dated: Sequence[tuple[bytes, bytes]] | None = None
        self._common = b""
        self._ok = b""

    def encode(
        self,
        answer: Answer,
        default_headers: Sequence[tuple[bytes, bytes]],
        echo: Mapping[str, str] = NO_HEADERS,
        closes: bool = False,
        bodiless: bool = False,
    ) -> bytes:
        """Return an answer's bytes.

        Args:
            answer: What is answered.
            default_headers: Of every answer; the same object for as long as they do not change.
            echo: The gate's headers for it.
            closes: Whether the connection ends with it.
            bodiless: Whether `HEAD` was asked.
        """
        if default_headers is not self._dated:
            self._dated = default_headers
            self._common = b"".join(b"%s: %s\r\n" % pair for pair in default_headers)
            self._ok = _STATUS[200] + self._common + _lines(JSON) + b"content-length: "
        status, body, headers, _ = answer
        if status == 200 and headers is JSON and not echo and not closes and not bodiless:
            return b"%s%d\r\n\r\n%s" % (self._ok, len(body), body)
        return b"".join(
            (
                _STATUS[status],
                self._common,
                _lines(headers),
                _lines(echo),
                _CLOSE if closes else b"",
                b"content-length: %d\r\n\r\n" % len(body),
                b"" if bodiless else body,
            )
        )


def _lines(headers: Mapping[str, str]) -> bytes:
    for name, value in headers.items():
        assert (name + value).isprintable(), "a header of an answer would break its line"
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode("latin-1")
