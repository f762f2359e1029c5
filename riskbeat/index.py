"""settings → the index process: `decisions.v1` into the file behind `GET /v1/decisions/{id}`.

One process of a machine writes, and every scorer of the machine reads the file. `riskbeat serve`
keeps it running: the first of its processes to lock the file beside the index starts it, and when
that one dies another does. It is a process of its own so that it takes no time from decisions.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from api.lookup_kafka import IndexFeeder
from api.lookup_sqlite import SqliteWriter
from api.publish import LogUnavailable
from riskbeat.child import Child, ChildFailed, ChildSpec
from riskbeat.settings import Settings

FILE: Final = Path("lookup/decisions.sqlite")
LOCK_POLL_S: Final = 1.0
RESTART_S: Final = 1.0
STOP_TIMEOUT_S: Final = 5.0

log = structlog.get_logger("index")


class Heard:
    """Writes down what becomes of the index."""

    def __init__(self) -> None:
        """Start counting."""
        self.rows = 0

    def indexed(self, rows: int, unreadable: int) -> None:
        """Records were read; see `lookup_kafka.Told`."""
        self.rows += rows
        if unreadable:
            log.warning("index.unreadable", records=unreadable)

    def index_begun(self, why: str) -> None:
        """The index begins anew."""
        log.warning("index.begun", why=why)


def index_path(settings: Settings) -> Path:
    """Return where the index of this machine lies."""
    return settings.lookup_path or settings.data_dir / FILE


def run_index(settings: Settings, now_ms: Callable[[], int]) -> int:
    """Index until a signal asks to stop; return the exit code."""
    return asyncio.run(_index(settings, now_ms))


async def _index(settings: Settings, now_ms: Callable[[], int]) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    heard = Heard()
    path = index_path(settings)
    writer = SqliteWriter(path, settings.lookup_horizon_s, settings.lookup_max_bytes)
    log.info("index.started", path=str(path), decisions=writer.count)
    try:
        while not stopping.is_set():
            feeder = IndexFeeder(
                settings.kafka_options(),
                settings.topics.decisions,
                writer,
                settings.lookup_horizon_s,
                heard,
                now_ms,
            )
            try:
                await feeder.run(stopping)
            except LogUnavailable as error:
                log.warning("index.waits", error=str(error))
                await _pause(stopping, RESTART_S)
    finally:
        writer.close()
    log.info("index.stopped", indexed=heard.rows)
    return 0


async def keep_index(settings: Settings, stopping: asyncio.Event) -> None:
    """Keep the machine's index process running, from one of its scorers; until told to stop.

    Who has the lock has the child. Both end with their holder, whatever ends it.
    """
    if not settings.lookup_index:
        await stopping.wait()
        return
    path = index_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a") as lock:
        if not await _has_lock(lock, stopping):
            return
        spec = ChildSpec(
            "index",
            (sys.executable, "-m", "riskbeat", "index"),
            dict(os.environ),
            path.with_suffix(".log"),
        )
        child = Child(spec, lambda _pid: None)
        await child.start()
        try:
            asked = asyncio.create_task(stopping.wait())
            ends: set[asyncio.Future[Any]] = {asked, child.failed}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            if child.failed.done():
                log.error("index.failed", error=_words(child.failed.exception()))
                await stopping.wait()  # decisions go on; lookups say that the index is behind
        finally:
            await child.stop(STOP_TIMEOUT_S)


async def _has_lock(lock: TextIO, stopping: asyncio.Event) -> bool:
    """Wait for the lock; False when told to stop before."""
    while not stopping.is_set():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            await _pause(stopping, LOCK_POLL_S)
        else:
            return True
    return False


def _words(error: BaseException | None) -> str:
    assert isinstance(error, ChildFailed)
    return str(error)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stopping.wait()
