"""One serve process among several: started, called to answer, asked to drain (`serve_place.py`)."""

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from riskbeat.serve_place import CALLED, CALLED_TO_STREAM, LISTENS, LOADED, Place

LOADED_WITHIN_S = 120.0
LISTENS_WITHIN_S = 10.0


class _Ear(asyncio.Protocol):
    """What a worker has said; the end of its life answers what it has not."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.said = {word: loop.create_future() for word in (LOADED, LISTENS)}

    def data_received(self, data: bytes) -> None:
        for word, said in self.said.items():
            if word in data and not said.done():
                said.set_result(True)

    def connection_lost(self, exc: Exception | None) -> None:
        for said in self.said.values():
            if not said.done():
                said.set_result(False)


class WorkerProcess:
    """A running process, and how to hear of it.

    Attributes:
        name: See `Place`.
        process: Itself.
    """

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        ear: _Ear,
        transport: asyncio.BaseTransport,
        life_fd: int,
    ) -> None:
        """Take the process and our ends of its pipes."""
        self.name = name
        self.process = process
        self._ear = ear
        self._transport = transport
        self._life_fd = life_fd

    @property
    def lives(self) -> bool:
        """Whether it runs, as far as is known."""
        return self.process.returncode is None

    @property
    def answers(self) -> bool:
        """Whether it has said that it listens."""
        said = self._ear.said[LISTENS]
        return said.done() and said.result()

    async def loads(self) -> bool:
        """Wait until it could answer; return whether it can."""
        return await self._says(LOADED, LOADED_WITHIN_S)

    def call(self, *, stream: bool) -> None:
        """Let it answer as soon as it can."""
        with suppress(BrokenPipeError):  # it died, which is heard of elsewhere
            os.write(self._life_fd, CALLED_TO_STREAM if stream else CALLED)

    async def listens(self) -> bool:
        """Wait until it answers, having been called; return whether it does."""
        return await self.loads() and await self._says(LISTENS, LISTENS_WITHIN_S)

    async def drain(self, within_s: float) -> bool:
        """Ask it to end, and kill it when it takes too long; return whether it ended by itself."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(within_s):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            return False
        return True

    def forget(self) -> None:
        """Close what we had of an ended process."""
        self._transport.close()
        os.close(self._life_fd)

    async def _says(self, word: bytes, within_s: float) -> bool:
        await asyncio.wait([self._ear.said[word]], timeout=within_s)
        return self._ear.said[word].done() and self._ear.said[word].result()


async def start_worker(name: str, listening: socket.socket, metrics: Path) -> WorkerProcess:
    """Start a process that loads all it needs, and waits to be called."""
    ours, says_fd = os.pipe()
    hears_fd, life_fd = os.pipe()
    place = Place(name, listening.fileno(), says_fd, hears_fd)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "riskbeat.serve_worker", place.encode()),
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(place.listening_fd, says_fd, hears_fd),
        )
    finally:
        os.close(says_fd)
        os.close(hears_fd)
    transport, ear = await asyncio.get_running_loop().connect_read_pipe(_Ear, os.fdopen(ours, "rb"))
    return WorkerProcess(name, process, ear, transport, life_fd)
