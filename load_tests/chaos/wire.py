"""one process ↔ the store or the log, through a wire of ours: passed on, held up, or cut.

A proxy on loopback stands for the network between two processes, so that any one of them can lose
a server or find it slow while the others do not. A broker tells those who come in by a wire to come
back by it (`tests.live.servers.Door`). All wires are in one process of their own (`python -m
load_tests.chaos.wire`), which is told line by line what to do, so that what they pass on takes no
time from those who measure.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvloop

from riskbeat.ports import LOOPBACK

READ_BYTES = 64 * 1024


class _Passing:
    """A listener that passes bytes both ways; how may change at any time."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._open: set[asyncio.StreamWriter] = set()
        self._cut, self._delay_s = False, 0.0

    async def listen(self) -> int:
        """Listen; return where."""
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def be(self, cut: bool, delay_s: float) -> None:
        """Pass on from now on, held up for so long each way; or close what is open, and refuse."""
        self._cut, self._delay_s = cut, delay_s
        if cut:
            for writer in self._open:
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._open |= both
        try:
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        finally:
            self._open -= both
            for one in both:
                one.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                writer.write(data)
                await writer.drain()
        with suppress(OSError, RuntimeError):
            writer.transport.abort()


class Wire:
    """One of the wires."""

    def __init__(self, box: "WireBox", number: int, port: int) -> None:
        """Take where it listens."""
        self.port = port
        self._box, self._number = box, number

    def cut(self) -> None:
        """Close what is open, and refuse what comes."""
        self._box.tell(wire=self._number, cut=True)

    def slow(self, delay_s: float) -> None:
        """Hold up every piece for so long, each way."""
        self._box.tell(wire=self._number, delay_s=delay_s)

    def mend(self) -> None:
        """Pass everything on, at once."""
        self._box.tell(wire=self._number)


class WireBox:
    """The process of all wires, from outside."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        """Take the process."""
        self._process = process
        self._made = 0

    def wire(self, port: int) -> Wire:
        """Return a new wire to a server on loopback, which need not listen yet."""
        wire = Wire(self, self._made, self.tell(to=port))
        self._made += 1
        return wire

    def tell(self, **words: Any) -> int:
        """Have something done; return the number that it answers."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def a_wire_box() -> Iterator[WireBox]:
    """Run the process; all wires end with it."""
    with subprocess.Popen(
        [sys.executable, "-m", "load_tests.chaos.wire"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield WireBox(process)
        assert process.stdin is not None
        process.stdin.close()  # it ends


def port_of(url: str) -> int:
    """Return the port of `redis://host:port/db`."""
    return int(url.split("//", 1)[1].split("/", 1)[0].rsplit(":", 1)[1])


async def _pass_on() -> None:
    wires: list[_Passing] = []
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        words = json.loads(line)
        answer = 0
        if "to" in words:
            wires.append(_Passing(words["to"]))
            answer = await wires[-1].listen()
        else:
            wires[words["wire"]].be(words.get("cut", False), words.get("delay_s", 0.0))
        print(answer, flush=True)


if __name__ == "__main__":
    uvloop.run(_pass_on())
