"""what riskbeat does by itself → the audit log, afterwards: it is never held up by the log.

An operator's act waits for the log (`audit.recorded`). A freeze, a turn back or a halted rule
protects payments and must not: it happens, and is written down as done as soon as the log takes it.
"""

import asyncio
import contextlib
import secrets
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from models.audit import ID_BYTES, Act, AuditLog, AuditUnavailable, BadEntry, Entry

WAITING_MAX = 1_000
AGAIN_S = 5.0
LAST_S = 5.0


class Told(Protocol):
    """Who hears of what the log did not take."""

    def audit_waits(self, detail: str) -> None:
        """The log takes nothing now, or holds what is no entry; it is tried again."""

    def audit_lost(self, act: Act) -> None:
        """An act found no room while the log was away.

        It stands in the lists of acts of registry, policy store and rollout alone.
        """


class Trail:
    """Acts on their way into the log, in order."""

    def __init__(
        self,
        log: AuditLog,
        told: Told,
        new_id: Callable[[], str] = lambda: secrets.token_hex(ID_BYTES),
    ) -> None:
        """Take the log; nothing is written before `run`.

        Args:
            log: Where acts go.
            told: Who hears of what did not get there.
            new_id: Makes the name of an entry, which its retries share.
        """
        self._log = log
        self._told = told
        self._new_id = new_id
        self._waiting: deque[Entry] = deque()
        self._noted = asyncio.Event()

    def note(self, act: Act) -> None:
        """Take an act that was done."""
        if len(self._waiting) >= WAITING_MAX:
            self._told.audit_lost(act)
            return
        self._waiting.append(Entry(id=self._new_id(), state="done", act=act))
        self._noted.set()

    async def run(self, stopping: asyncio.Event) -> None:
        """Write down what is noted until told to stop, and then, within bounds, what is left."""
        while not stopping.is_set():
            waits = [asyncio.ensure_future(each.wait()) for each in (stopping, self._noted)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            if not await self._write():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(AGAIN_S):
                        await stopping.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._write()

    async def _write(self) -> bool:
        """Write what waits; return whether the log took all of it."""
        self._noted.clear()
        while self._waiting:
            try:
                await self._log.append(self._waiting[0])
            except (AuditUnavailable, BadEntry) as error:  # whoever acts by itself goes on
                self._told.audit_waits(str(error))
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
