"""fetched batches → all that waits, merged: between the fetch loop and a step.

The fetch loop feeds two steps. Without this a batch of one waits for the other step; with it each
step takes whatever has come meanwhile, so batches grow with load and not with queues.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.featurize import Place

Batch = list[tuple[Place, Sequence[Any]]]


class Mailbox:
    """What waits for one step, by place and in order; bounded in records."""

    def __init__(self, records_max: int) -> None:
        """Hold nothing; `put` waits while `records_max` or more records are waiting."""
        self._records_max = records_max
        self._waiting: dict[Place, list[Any]] = {}
        self._records = 0
        self._changed = asyncio.Condition()

    @property
    def records(self) -> int:
        """Count of records that wait."""
        return self._records

    async def put(self, batch: Batch, wanted: Callable[[], bool] = lambda: True) -> None:
        """Add a batch, if it is wanted when there is room for it; returns then."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._records < self._records_max)
            if not wanted():
                return
            for place, records in batch:
                self._waiting.setdefault(place, []).extend(records)
                self._records += len(records)
            self._changed.notify_all()

    async def take(self) -> Batch:
        """Return all that waits, one entry a place; waits until there is something."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._records > 0)
            return self._empty()

    async def clear(self) -> None:
        """Forget what waits: its partitions are read again from where the store says."""
        async with self._changed:
            self._empty()

    def _empty(self) -> Batch:
        taken: Batch = list(self._waiting.items())
        self._waiting, self._records = {}, 0
        self._changed.notify_all()
        return taken
