"""key store → KeyTable in memory: who calls is known without asking anybody.

A request is judged by what was last read. While the store answers, a new, rotated or revoked key
is known within `refresh_s`; while it does not, keys go on as they stood for at most `stale_max_s`,
and then nobody is let in rather than somebody who was shut out.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from api.keys import KeyRecord, KeyRefused, KeyStore, KeysUnavailable, KeyTable

UNKNOWN_REFRESH_S = 0.5
"""A key that nobody knows may be new: it brings a look at the store forward, but so often only."""


class Told(Protocol):
    """Who hears of what becomes of keys."""

    def keys_read(self, keys: int) -> None:
        """The store answered, with so many valid keys."""

    def keys_failed(self, detail: str) -> None:
        """The store did not answer; keys stand as they were."""


class KeyRing:
    """The keys as they were last read."""

    def __init__(
        self,
        store: KeyStore,
        secret: bytes,
        now_ms: Callable[[], int],
        told: Told,
        *,
        refresh_s: float,
        stale_max_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the store; nothing is read before `refresh`.

        Args:
            store: Where keys are kept.
            secret: Key of their hashes.
            now_ms: Wall clock, milliseconds since 1970; keys expire by it.
            told: Who hears of reads.
            refresh_s: Time between two reads.
            stale_max_s: What was read longer ago lets nobody in.
            clock: Monotonic seconds.
        """
        self._store = store
        self._secret = secret
        self._now_ms = now_ms
        self._told = told
        self._refresh_s = refresh_s
        self._stale_max_s = stale_max_s
        self._clock = clock
        self._table = KeyTable([], secret, now_ms)
        self._read_at: float | None = None
        self._unknown = asyncio.Event()
        self.failure = ""

    def find(self, token: str) -> KeyRecord:
        """Return the key that a token opens; waits for nobody.

        Raises:
            KeyRefused: None does.
            KeysUnavailable: What is known is older than `stale_max_s`, or nothing is.
        """
        if self._read_at is None or self._clock() - self._read_at > self._stale_max_s:
            raise KeysUnavailable("the store of the keys does not answer")
        try:
            return self._table.find(token)
        except KeyRefused:
            if not self._table.knows(token):
                self._unknown.set()
            raise

    async def refresh(self) -> int:
        """Read the store; return how many keys are valid.

        Raises:
            KeysUnavailable: No answer; what was known stays.
        """
        try:
            records = await self._store.read_all()
        except KeysUnavailable as error:
            self.failure = str(error)
            self._told.keys_failed(self.failure)
            raise
        self._table = KeyTable(records, self._secret, self._now_ms)
        self._read_at = self._clock()
        self.failure = ""
        self._told.keys_read(len(self._table))
        return len(self._table)

    async def run(self, stopping: asyncio.Event) -> None:
        """Read again and again until told to stop."""
        stop = asyncio.ensure_future(stopping.wait())
        try:
            while not stop.done():
                self._unknown.clear()
                unknown = asyncio.ensure_future(self._unknown.wait())
                await asyncio.wait({stop}, timeout=min(UNKNOWN_REFRESH_S, self._refresh_s))
                await asyncio.wait(
                    {stop, unknown},
                    timeout=max(0.0, self._refresh_s - UNKNOWN_REFRESH_S),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                unknown.cancel()
                if not stop.done():
                    await self._try()
        finally:
            stop.cancel()

    async def _try(self) -> None:
        try:
            await self.refresh()
        except KeysUnavailable:
            return  # told; keys stand as they were
