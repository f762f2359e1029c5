"""settings → several serve processes on one port, kept running: `RISKBEAT_HTTP_WORKERS` of them.

This process owns the listening socket and nothing else: it answers nothing, and neither Redis nor
Kafka nor a model is known to it. A worker listens on the shared socket once it is called. When one
dies, the spare (`RISKBEAT_HTTP_SPARE`), which has loaded everything and follows the weights, is
called in its place at once, and another is loaded; without a spare one is started. SIGHUP puts a
new one in each one's place, up before the old one drains, so that no connection is refused; SIGTERM
drains them all. Workers end when this process does.
"""

import asyncio
import itertools
import shutil
import signal
import socket
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import structlog

from riskbeat.serve_place import BACKLOG
from riskbeat.settings import Settings
from riskbeat.shared_metrics import metrics_folder
from riskbeat.worker_process import WorkerProcess, start_worker

RESTARTS_MAX = 8
RESTART_WINDOW_S = 60.0
BACKOFF_FIRST_S = 0.1
BACKOFF_LIMIT_S = 5.0
STOP_MARGIN_S = 5.0
EXIT_REFUSED = 3

log = structlog.get_logger("serve")


def run_workers(settings: Settings, *, stream: bool) -> int:
    """Run until a signal asks to stop, or workers die too often; return the exit code.

    0: asked to stop; 1: a worker died too often; 3: the store holds no features of this spec.
    """
    return asyncio.run(_Workers(settings, stream).run())


class _Deaths:
    """When the workers of one seat died."""

    def __init__(self) -> None:
        self._when_s: deque[float] = deque(maxlen=RESTARTS_MAX + 1)

    def add(self) -> int:
        """Count one; return how many there were of late."""
        self._when_s.append(time.monotonic())
        return sum(self._when_s[-1] - one < RESTART_WINDOW_S for one in self._when_s)


class _Workers:
    """The processes by their seat, and the spare, which has none."""

    def __init__(self, settings: Settings, stream: bool) -> None:
        self._settings = settings
        self._stream = stream
        self._metrics = metrics_folder(settings)
        self._stopping = asyncio.Event()
        self._asked_to_roll = asyncio.Event()
        self._exit = 0
        self._listening: socket.socket | None = None
        self._seats: dict[int, WorkerProcess] = {}
        self._spare: WorkerProcess | None = None
        self._spare_left = asyncio.Event()
        self._not_rolling = asyncio.Event()
        self._not_rolling.set()
        self._names: set[str] = set()

    async def run(self) -> int:
        """See `run_workers`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._asked_to_roll.set)
        host, port = self._settings.http_host, self._settings.http_port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family, backlog=BACKLOG) as listening:
            self._listening = listening
            count = self._settings.http_workers
            log.info("workers.started", count=count, port=listening.getsockname()[1])
            for seat in range(count):
                self._fill(seat, await self._start())
            others = [asyncio.create_task(self._roll_when_asked())]
            if self._settings.http_spare:
                others.append(asyncio.create_task(self._keep_spare()))
            keepers = [asyncio.create_task(self._keep(seat)) for seat in range(count)]
            await asyncio.wait(keepers, return_when=asyncio.FIRST_COMPLETED)
            self._stopping.set()
            await asyncio.gather(*others, *keepers)
        shutil.rmtree(self._metrics, ignore_errors=True)
        log.info("workers.stopped", exit=self._exit)
        return self._exit

    async def _keep(self, seat: int) -> None:
        """Keep one seat filled until told to stop, or until its workers die too often."""
        deaths = _Deaths()
        while not self._stopping.is_set():
            worker = self._seats[seat]
            await self._either(worker.process.wait())
            if self._stopping.is_set() or self._seats[seat] is not worker:
                continue
            code, recent = self._bury(worker), deaths.add()
            if code == EXIT_REFUSED or recent > RESTARTS_MAX:
                self._exit = EXIT_REFUSED if code == EXIT_REFUSED else 1
                return
            if recent > 1:  # a first death is no habit, and somebody waits
                await self._either(asyncio.sleep(_pause_s(recent)))
            if not self._stopping.is_set():
                self._fill(seat, self._take_spare() or await self._start())
        await self._drain(self._seats[seat])

    def _fill(self, seat: int, worker: WorkerProcess) -> None:
        self._seats[seat] = worker
        worker.call(stream=self._stream and seat == 0)
        log.info("worker.called", worker=worker.name, seat=seat)

    async def _keep_spare(self) -> None:
        """Keep a spare, begun when the seats are taken: it would only delay them."""
        deaths = _Deaths()
        while not self._stopping.is_set():
            await self._either(self._not_rolling.wait())
            for worker in list(self._seats.values()):
                await self._either(worker.listens())
            if self._stopping.is_set():
                return
            spare = self._spare = await self._start()
            self._spare_left.clear()
            await self._either(_first(spare.loads(), self._spare_left.wait()))
            if self._spare is spare and spare.lives and not self._stopping.is_set():
                log.info("worker.stands_by", worker=spare.name)
            await self._either(_first(spare.process.wait(), self._spare_left.wait()))
            if self._spare is not spare:
                continue
            self._spare = None
            if spare.lives:
                await self._drain(spare)
            else:
                self._bury(spare)
                await self._either(asyncio.sleep(_pause_s(deaths.add())))

    def _take_spare(self) -> WorkerProcess | None:
        """Return the spare, if one lives: it may still be loading, but is ahead of a new one."""
        if self._spare is None or not self._spare.lives:
            return None
        spare, self._spare = self._spare, None
        self._spare_left.set()
        return spare

    async def _roll_when_asked(self) -> None:
        """Put a new worker in each one's place, one after the other."""
        while True:
            await self._either(self._asked_to_roll.wait())
            if self._stopping.is_set():
                return
            self._asked_to_roll.clear()
            self._not_rolling.clear()
            if (spare := self._take_spare()) is not None:  # it is of the old kind
                await self._drain(spare)
            for seat in sorted(self._seats):
                if not self._stopping.is_set():
                    await self._roll(seat)
            self._not_rolling.set()

    async def _roll(self, seat: int) -> None:
        new = await self._start()
        await self._either(new.loads())
        if not self._stopping.is_set():
            new.call(stream=self._stream and seat == 0)
            await self._either(new.listens())
        if self._stopping.is_set() or not new.answers:
            log.error("worker.not_rolled", worker=self._seats[seat].name)
            await self._drain(new)
            return
        old, self._seats[seat] = self._seats[seat], new
        await self._drain(old)
        log.info("worker.rolled", worker=new.name, instead_of=old.name)

    async def _start(self) -> WorkerProcess:
        assert self._listening is not None
        name = next(name for i in itertools.count() if (name := str(i)) not in self._names)
        self._names.add(name)
        worker = await start_worker(name, self._listening, self._metrics)
        log.info("worker.started", worker=name, pid=worker.process.pid)
        return worker

    async def _drain(self, worker: WorkerProcess) -> None:
        """Let a worker end what it began; kill it when it takes too long."""
        if not await worker.drain(self._settings.stop_timeout_s + STOP_MARGIN_S):
            log.error("worker.killed", worker=worker.name)
        self._forget(worker)

    def _bury(self, worker: WorkerProcess) -> int | None:
        """Say that a worker died by itself; return its exit code."""
        code = worker.process.returncode
        log.error("worker.died", worker=worker.name, code=code)
        self._forget(worker)
        return code

    def _forget(self, worker: WorkerProcess) -> None:
        """Take what an ended worker's gauges said off the page; its counts stay."""
        worker.forget()
        self._names.discard(worker.name)
        for page in self._metrics.glob(f"gauge_*_{worker.name}.db"):
            page.unlink(missing_ok=True)

    async def _either(self, other: Coroutine[Any, Any, Any]) -> None:
        """Wait for something, or for being told to stop."""
        await _first(other, self._stopping.wait())


async def _first(*others: Coroutine[Any, Any, Any]) -> None:
    """Wait for the first of several to end, and for no other."""
    waits = [asyncio.ensure_future(other) for other in others]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _pause_s(recent: int) -> float:
    return min(BACKOFF_LIMIT_S, BACKOFF_FIRST_S * 2.0**recent)
