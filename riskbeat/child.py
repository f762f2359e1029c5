"""a command → a process in a group of its own that is started again when it dies, up to a limit."""

import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
RESTARTS_MAX = 8
RESTART_WINDOW_S = 60.0
BACKOFF_FIRST_S = 0.1
BACKOFF_LIMIT_S = 5.0
LOG_TAIL_BYTES = 4096


class ChildFailed(RuntimeError):
    """A process died more often than it may be restarted; carries the end of its log."""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run.

    Attributes:
        restarts_max: Restarts within `RESTART_WINDOW_S`; one more death fails the stack.
        stop_signal: The signal that asks it to end.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    restarts_max: int = RESTARTS_MAX
    stop_signal: signal.Signals = signal.SIGTERM


class Child:
    """One supervised process.

    Its process group ends with its parent, by the kernel on Linux (`guard.run`) and by the warden
    everywhere (`guard.watch`), which hears of every group by `watch`.
    """

    def __init__(self, spec: ChildSpec, watch: Callable[[int], None]) -> None:
        """Hold the spec; nothing runs before `start`."""
        self.spec = spec
        self.restarts = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.failed.add_done_callback(lambda failed: failed.exception())
        self._watch = watch
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The running process, or None between a death and the restart."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def start(self) -> None:
        """Start the process and keep it running."""
        assert self._keeper is None
        process = await self._spawn()
        self._keeper = asyncio.create_task(self._keep(process), name=f"keep {self.spec.name}")

    async def run_once(self, timeout_s: float) -> None:
        """Run the process to its end.

        Raises:
            ChildFailed: It ended with another code than 0, or not within `timeout_s`.
        """
        process = await self._spawn()
        try:
            code = await asyncio.wait_for(process.wait(), timeout_s)
        except TimeoutError:
            raise ChildFailed(f"{self.spec.name} did not end within {timeout_s:g} s") from None
        if code != 0:
            raise ChildFailed(self._last_words(code))

    async def stop(self, timeout_s: float) -> None:
        """Ask the process to end; kill its group when `timeout_s` has passed."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            self._keeper = None
        if self._process is not None:
            await self._end(self._process, timeout_s)

    def kill(self) -> None:
        """Kill the process as `kill -9` does; it will be restarted."""
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    def log_tail(self) -> str:
        """Return the end of its log."""
        with self.spec.log.open("rb") as log:
            log.seek(max(0, self.spec.log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="replace")

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        deaths: deque[float] = deque(maxlen=self.spec.restarts_max + 1)
        while True:
            code = await process.wait()
            self._forget(process)
            now = time.monotonic()
            deaths.append(now)
            recent = sum(now - death < RESTART_WINDOW_S for death in deaths)
            if recent > self.spec.restarts_max:
                self.failed.set_exception(ChildFailed(self._last_words(code)))
                return
            await asyncio.sleep(min(BACKOFF_LIMIT_S, BACKOFF_FIRST_S * 2 ** (recent - 1)))
            self.restarts += 1
            process = await self._spawn()

    def _last_words(self, code: int) -> str:
        return f"{self.spec.name} ended with code {code}; its log ends:\n{self.log_tail()}"

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self.spec.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(GUARD), "run", *self.spec.command),
                env=dict(self.spec.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._watch(process.pid)
        self._process = process
        return process

    async def _end(self, process: asyncio.subprocess.Process, timeout_s: float) -> None:
        if process.returncode is None:
            process.send_signal(self.spec.stop_signal)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), timeout_s)
        self._forget(process)
        await process.wait()

    def _forget(self, process: asyncio.subprocess.Process) -> None:
        """Kill what is left of the group, and take it off the warden's list."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        self._watch(-process.pid)
