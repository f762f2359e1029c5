"""settings → several serve processes on one port, kept running: `RISKBEAT_HTTP_WORKERS` of them.

This process owns the listening socket and nothing else: it answers nothing, and neither Redis nor
Kafka nor a model is known to it. A worker listens on the shared socket once it can answer. A dead
one is started again; SIGHUP puts a new one in each one's place, up before the old one drains, so
that no connection is refused; SIGTERM drains them all. Workers end when this process does.
"""

import asyncio
import os
import shutil
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import structlog

from riskbeat.serve_place import BACKLOG, GENERATIONS, Place
from riskbeat.settings import Settings

RESTARTS_MAX = 8
RESTART_WINDOW_S = 60.0
BACKOFF_FIRST_S = 0.1
BACKOFF_LIMIT_S = 5.0
STARTED_WITHIN_S = 120.0
STOP_MARGIN_S = 5.0
EXIT_REFUSED = 3

log = structlog.get_logger("serve")


def run_workers(settings: Settings, *, stream: bool) -> int:
    """Run until a signal asks to stop, or workers die too often; return the exit code.

    0: asked to stop; 1: a worker died too often; 3: the store holds no features of this spec.
    """
    return asyncio.run(_Workers(settings, stream).run())


@dataclass(eq=False)
class _Worker:
    """One process, and how to hear of it.

    Attributes:
        heard: Its readiness: a byte when it listens, the end when it died.
        ear: What `heard` reads from.
        life: Our end of a pipe; when it closes, the worker ends.
    """

    place: Place
    process: asyncio.subprocess.Process
    heard: asyncio.StreamReader
    ear: asyncio.BaseTransport
    life: int

    async def listens(self) -> bool:
        """Wait until it listens; return whether it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(STARTED_WITHIN_S):
                return bool(await self.heard.read(1))
        return False


class _Workers:
    """The processes, by their place."""

    def __init__(self, settings: Settings, stream: bool) -> None:
        self._settings = settings
        self._stream = stream
        self._metrics = settings.data_dir / "metrics" / f"http-{settings.http_port}"
        self._stopping = asyncio.Event()
        self._asked_to_roll = asyncio.Event()
        self._exit = 0
        self._listening: socket.socket | None = None
        self._workers: dict[int, _Worker] = {}

    async def run(self) -> int:
        """See `run_workers`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_roll.set)
        shutil.rmtree(self._metrics, ignore_errors=True)
        self._metrics.mkdir(parents=True)
        host, port = self._settings.http_host, self._settings.http_port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family, backlog=BACKLOG) as listening:
            self._listening = listening
            count = self._settings.http_workers
            log.info("workers.started", count=count, port=listening.getsockname()[1])
            rolls = asyncio.create_task(self._roll_when_asked())
            keepers = [asyncio.create_task(self._keep(index)) for index in range(count)]
            await asyncio.wait(keepers, return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            await asyncio.gather(rolls, *keepers)
        log.info("workers.stopped", exit=self._exit)
        return self._exit

    async def _keep(self, index: int) -> None:
        """Keep one place filled until told to stop, or until its workers die too often."""
        deaths: deque[float] = deque(maxlen=RESTARTS_MAX + 1)
        place = Place(index=index, generation=GENERATIONS[0], stream=self._stream and not index)
        self._workers[index] = await self._start(place)
        while not self._stopping.is_set():
            worker = self._workers[index]
            await self._either(worker.process.wait())
            if self._stopping.is_set() or self._workers[index] is not worker:
                continue
            code = worker.process.returncode
            self._forget(worker)
            log.error("worker.died", worker=worker.place.name, code=code)
            deaths.append(time.monotonic())
            recent = sum(deaths[-1] - death < RESTART_WINDOW_S for death in deaths)
            if code == EXIT_REFUSED or recent > RESTARTS_MAX:
                self._exit = EXIT_REFUSED if code == EXIT_REFUSED else 1
                return
            await self._either(asyncio.sleep(min(BACKOFF_LIMIT_S, BACKOFF_FIRST_S * 2**recent)))
            if not self._stopping.is_set():
                self._workers[index] = await self._start(worker.place)
        await self._stop(self._workers[index])

    async def _roll_when_asked(self) -> None:
        """Put a new worker in each one's place, one after the other."""
        while True:
            await self._either(self._asked_to_roll.wait())
            if self._stopping.is_set():
                return
            self._asked_to_roll.clear()
            for index in sorted(self._workers):
                before = self._workers[index].place
                new = await self._start(replace(before, generation=before.next_generation))
                if not await new.listens() or self._stopping.is_set():
                    log.error("worker.not_rolled", worker=before.name)
                    await self._stop(new)
                    continue
                old, self._workers[index] = self._workers[index], new
                await self._stop(old)
                log.info("worker.rolled", worker=new.place.name)

    async def _start(self, place: Place) -> _Worker:
        assert self._listening is not None
        ready, tells = os.pipe()
        lives, life = os.pipe()
        fd = self._listening.fileno()
        place = replace(place, listening_fd=fd, ready_fd=tells, life_fd=lives)
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "riskbeat.serve_worker", place.encode()),
                env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(self._metrics)},
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(fd, tells, lives),
            )
        finally:
            os.close(tells)
            os.close(lives)
        heard = asyncio.StreamReader()
        ear, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(heard), os.fdopen(ready, "rb")
        )
        log.info("worker.started", worker=place.name, pid=process.pid)
        return _Worker(place, process, heard, ear, life)

    async def _stop(self, worker: _Worker) -> None:
        """Let a worker drain; kill it when it takes too long."""
        with suppress(ProcessLookupError):
            worker.process.terminate()
        try:
            async with asyncio.timeout(self._settings.stop_timeout_s + STOP_MARGIN_S):
                await worker.process.wait()
        except TimeoutError:
            log.error("worker.killed", worker=worker.place.name)
            worker.process.kill()
            await worker.process.wait()
        self._forget(worker)

    def _forget(self, worker: _Worker) -> None:
        """Take what an ended worker's gauges said off the page; its counts stay."""
        worker.ear.close()
        with suppress(OSError):
            os.close(worker.life)
        for page in self._metrics.glob(f"gauge_*_{worker.place.name}.db"):
            page.unlink(missing_ok=True)

    async def _either(self, other: Coroutine[Any, Any, Any]) -> None:
        """Wait for something, or for being told to stop."""
        waits = [asyncio.ensure_future(other), asyncio.ensure_future(self._stopping.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
