"""bytes, cut anywhere → requests: httptools' parser with bounds, and what it tells.

Bodies are passed on in pieces; nothing of them is kept here.
"""

from typing import Final, NamedTuple, Protocol

import httptools

from api.errors import HeadTooLarge, Malformed
from api.route import Head

_METHODS: Final = {name.encode(): name for name in ("GET", "POST", "HEAD", "PUT", "DELETE")}


class Arrived(NamedTuple):
    """A request's head, and how it was framed.

    Attributes:
        url: The request's target as it was sent.
        headers: In order, names in lower case.
        keeps: Whether another request may follow on the connection.
    """

    head: Head
    url: bytes
    headers: list[tuple[bytes, bytes]]
    keeps: bool


class Hears(Protocol):
    """Who is told of requests. What it raises ends the reading, and is raised by `feed`."""

    def head_came(self, arrived: Arrived) -> None:
        """A head is complete."""

    def body_came(self, piece: bytes) -> None:
        """A piece of the body of the last head."""

    def request_ended(self) -> None:
        """The last head's request is complete."""


class Reader:
    """Reads the requests of one connection.

    Attributes:
        in_head: Whether a request has begun whose head is not complete.
        client: Address of the peer, for the heads.
    """

    def __init__(self, hears: Hears, head_max_bytes: int, headers_max: int) -> None:
        """Take whom to tell, and the bounds of a head."""
        self._hears = hears
        self._head_max_bytes = head_max_bytes
        self._headers_max = headers_max
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._fault: Exception | None = None
        self._again = b""
        self._begun = 0
        self._open = False
        self._unfinished_bytes = 0
        self.in_head = False
        self.client = ""

    def feed(self, data: bytes) -> None:
        """Read on; what stands after an `Upgrade`, which is not taken up, is HTTP/1.1 as before.

        Raises:
            Malformed: The bytes are no HTTP request.
            HeadTooLarge: Request line and headers exceed their bounds.
            Exception: What the one who is told raised.
        """
        began_before, was_open = self._begun, self._open
        rest = data
        while rest:
            try:
                self._parser.feed_data(rest)
                break
            except httptools.HttpParserUpgrade as upgrade:
                again, self._again = self._again, b""
                rest = again + rest[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                raise self._fault or Malformed(str(error) or "no HTTP request") from error
        begun = self._begun - began_before
        if self.in_head and (not begun or (begun == 1 and not was_open)):
            self._unfinished_bytes += len(data)  # the parser keeps what it has no end of
            if self._unfinished_bytes > self._head_max_bytes:
                raise HeadTooLarge(f"a head of more than {self._head_max_bytes} bytes")

    def on_message_begin(self) -> None:
        """Hear a request's first byte."""
        self.in_head = self._open = True
        self._begun += 1
        self._url = b""
        self._headers = []
        self._head_bytes = self._unfinished_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._url += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, of a head or after a chunked body."""
        self._headers.append((name.lower(), value))
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """Tell of the head."""
        self.in_head = False
        raw = self._parser.get_method()
        url = self._url
        path, _, query = url.partition(b"?")
        try:
            if not path.startswith(b"/"):
                path = _path_of(url)
            head = Head(
                _METHODS.get(raw) or raw.decode("ascii"),
                path,
                query,
                dict(self._headers),
                self.client,
            )
            keeps = self._parser.should_keep_alive() and self._parser.get_http_version() == "1.1"
            arrived = Arrived(head, url, self._headers, keeps)
            if self._parser.should_upgrade() and raw != b"CONNECT":
                self._again = wire_of(arrived)  # the parser would not read its body
            else:
                self._hears.head_came(arrived)
        except Exception as error:
            self._fault = error
            raise

    def on_body(self, body: bytes) -> None:
        """Tell of a piece of the body."""
        try:
            self._hears.body_came(body)
        except Exception as error:
            self._fault = error
            raise

    def on_message_complete(self) -> None:
        """Tell of the end."""
        self._open = False
        if self._again:
            return
        try:
            self._hears.request_ended()
        except Exception as error:
            self._fault = error
            raise

    def _count(self, more_bytes: int) -> None:
        self._head_bytes += more_bytes
        if self._head_bytes > self._head_max_bytes:
            self._fault = HeadTooLarge(f"a head of more than {self._head_max_bytes} bytes")
            raise self._fault
        if len(self._headers) > self._headers_max:
            self._fault = HeadTooLarge(f"more than {self._headers_max} headers")
            raise self._fault


def _path_of(url: bytes) -> bytes:
    """Return the path of a target in absolute form; `*` and an authority stand for themselves."""
    if b"://" not in url:
        return url
    try:
        return httptools.parse_url(url).path or b"/"
    except httptools.HttpParserInvalidURLError as error:
        raise Malformed("the request's target is no URL") from error


def wire_of(arrived: Arrived) -> bytes:
    """Return a request's head as it came, for another parser to read.

    An `Upgrade` is left out, since it is not taken up, and the version is 1.1 whatever it was.
    """
    lines = [
        b"%s: %s\r\n" % (name, value)
        for name, value in arrived.headers
        if name not in (b"upgrade", b"connection")
    ]
    if not arrived.keeps:
        lines.append(b"connection: close\r\n")
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (
        arrived.head.method.encode(),
        arrived.url,
        b"".join(lines),
    )
