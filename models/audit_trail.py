"""what riskbeat does by itself → the audit log, afterwards: it is never held up, and never unsaid.

An operator's act waits for the log (`audit.recorded`). A freeze, a turn back or a halted rule
protects payments and must not: it happens, and is written down as done as soon as the log takes it.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable

from models.audit import ID_BYTES, Act, AuditLog, AuditUnavailable, Entry

WAITING_MAX = 1_000
AGAIN_S = 5.0
LAST_S = 5.0


class Trail:
    """Acts on their way into the log, in order.

    Attributes:
        dropped: Acts that found no room while the log was away; they stand in the lists of acts of
            registry, policy store and rollout alone.
    """

    def __init__(
        self, log: AuditLog, new_id: Callable[[], str] = lambda: secrets.token_hex(ID_BYTES)
    ) -> None:
        """Take the log; nothing is written before `run`.

        Args:
            log: Where acts go.
            new_id: Makes the name of an entry, which its retries share.
        """
        self._log = log
        self._new_id = new_id
        self._waiting: deque[Entry] = deque()
        self._noted = asyncio.Event()
        self.dropped = 0

    def note(self, act: Act) -> None:
        """Take an act that was done."""
        if len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
            return
        self._waiting.append(Entry(id=self._new_id(), state="done", act=act))
        self._noted.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Write down what is noted until told to stop, and then, within bounds, what is left."""
        while not stopping.is_set():
            await _first(stopping, self._noted)
            if not await self._write() and self._waiting:
                await _first(stopping, asyncio.Event(), AGAIN_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._write()

    async def _write(self) -> bool:
        """Write what waits; return whether the log took all of it."""
        self._noted.clear()
        while self._waiting:
            try:
                await self._log.append(self._waiting[0])
            except AuditUnavailable:
                self._noted.set()
                return False
            self._waiting.popleft()
        return True


@contextlib.asynccontextmanager
async def writing(trail: Trail) -> AsyncIterator[None]:
    """Write down what is noted within the `async with` block, and then, within bounds, the rest."""
    stopping = asyncio.Event()
    task = asyncio.create_task(trail.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await task


async def _first(one: asyncio.Event, other: asyncio.Event, within_s: float | None = None) -> None:
    waits = [asyncio.ensure_future(each.wait()) for each in (one, other)]
    await asyncio.wait(waits, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
