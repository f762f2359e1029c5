"""A real server on a real socket over the fakes, and a client that sees and sends bytes."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from api.decide_http import create_app
from api.door_exchange import DoorLimits
from api.door_http import Door
from api.routes_http import HotRoutes
from tests.fakes_http import BODY, Site

ANSWER_S = 10.0


class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Running:
    """A server that answers.

    Attributes:
        gone: Ends when it has stopped.
    """

    port: int
    server: Server
    gone: asyncio.Task[None]
    wires: list["Wire"] = field(default_factory=list)

    async def connect(self, **options: Any) -> "Wire":
        """Return a connection, which is closed with the server at the latest."""
        self.wires.append(Wire(*await asyncio.open_connection("127.0.0.1", self.port, **options)))
        return self.wires[-1]


@contextlib.asynccontextmanager
async def running(
    site: Site, face: str = "socket", limits: DoorLimits | None = None, **config: Any
) -> AsyncIterator[Running]:
    """Serve a site's deps by one face of the door."""
    door: Any = Door(HotRoutes(site.deps), limits or DoorLimits(drain_grace_s=0.0))
    listening = socket.create_server(("127.0.0.1", 0))
    server = Server(
        uvicorn.Config(
            create_app(site.deps),
            http=door if face == "socket" else "httptools",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            **config,
        )
    )
    gone = asyncio.create_task(server.serve([listening]))
    await until(lambda: server.started)
    port = listening.getsockname()[1]
    door_at = Running(port, server, gone)
    try:
        yield door_at
    finally:
        for wire in door_at.wires:
            await wire.close()
        server.should_exit = True
        await gone


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another task of this loop does."""
    async with asyncio.timeout(ANSWER_S):
        while not holds():  # noqa: ASYNC110 (what is watched has no event)
            await asyncio.sleep(0.001)


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, method: str = "POST") -> Response:
        """Read one answer as RFC 9112 says."""
        async with asyncio.timeout(ANSWER_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            status = int(head[0].split()[1])
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            body = b""
            if status >= 200 and method != "HEAD":
                if headers.get("transfer-encoding") == "chunked":
                    while size := int(await self.reader.readline(), 16):
                        body += (await self.reader.readexactly(size + 2))[:-2]
                    await self.reader.readline()
                else:
                    body = await self.reader.readexactly(int(headers["content-length"]))
            return Response(status, headers, body)

    async def ended(self) -> bytes:
        """Read to the end of the connection."""
        async with asyncio.timeout(ANSWER_S):
            return await self.reader.read()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def an_event(name: str, **changes: Any) -> bytes:
    return json.dumps(BODY | {"event_id": name, **changes}).encode()


def a_request(
    body: bytes = b"", path: str = "/v1/decisions", method: str = "POST", **headers: str
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def in_chunks(body: bytes, size: int, path: str = "/v1/decisions") -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    head = f"POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + chunks + b"0\r\n\r\n"
