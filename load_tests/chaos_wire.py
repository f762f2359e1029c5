"""one process ↔ the store, through a wire of ours: passed on, held up, or cut.

A proxy on loopback stands for the network between two processes, so that any one of them can lose
the store or find it slow while the others do not.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from load_tests.deployment import LOOPBACK

READ_BYTES = 64 * 1024
START_TIMEOUT_S = 10.0

State = Literal["whole", "cut"]


class Wire:
    """A listener that passes bytes both ways; its state may change at any time."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._open: set[asyncio.StreamWriter] = set()
        self._state: State = "whole"
        self._delay_s = 0.0
        self._thread = threading.Thread(target=self._run, name="wire", daemon=True)
        self.port = 0

    def start(self) -> None:
        """Listen; returns when the port is known."""
        self._thread.start()
        assert self._ready.wait(START_TIMEOUT_S)

    def stop(self) -> None:
        """Close everything."""
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_TIMEOUT_S)

    def cut(self) -> None:
        """Close what is open, and refuse what comes."""
        self._state = "cut"
        self._loop.call_soon_threadsafe(self._close_all)

    def slow(self, delay_s: float) -> None:
        """Hold up every piece for so long, each way."""
        self._delay_s = delay_s

    def mend(self) -> None:
        """Pass everything on, at once."""
        self._state, self._delay_s = "whole", 0.0

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, LOOPBACK, 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        if ending := asyncio.all_tasks(self._loop):  # all are closed: they end by themselves
            self._loop.run_until_complete(asyncio.wait(ending, timeout=START_TIMEOUT_S))
        self._loop.close()

    def _close_all(self) -> None:
        for writer in self._open:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state == "cut":
            writer.transport.abort()
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
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


@contextmanager
def a_wire(address: str) -> Iterator[Wire]:
    """Yield a wire to a server of `redis://host:port/db`."""
    host, port = address.split("//", 1)[1].split("/", 1)[0].rsplit(":", 1)
    wire = Wire(host, int(port))
    wire.start()
    try:
        yield wire
    finally:
        wire.stop()
