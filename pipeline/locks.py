"""One lock for each partition: it is routed, applied or taken over by one task at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from pipeline.featurize import Place


class PlaceLocks:
    """The locks of all partitions that were ever asked for; there are few."""

    def __init__(self) -> None:
        """Hold none."""
        self._locks: dict[Place, asyncio.Lock] = {}

    @asynccontextmanager
    async def holding(self, places: Iterable[Place]) -> AsyncIterator[None]:
        """Hold the locks of partitions; everybody takes them in one order, so nobody is stuck."""
        held: list[asyncio.Lock] = []
        try:
            for place in sorted(places):
                lock = self._locks.setdefault(place, asyncio.Lock())
                await lock.acquire()
                held.append(lock)
            yield
        finally:
            for lock in held:
                lock.release()
