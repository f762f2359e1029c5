"""Whose turn it is: two steps of one loop alternate while little waits, and overlap under load.

Both are mostly work of one core. What runs side by side then only waits for the other, and an event
that waits in both pays twice; so a batch is routed when the one before it is applied. Where much
waits, routing it while the other step waits for the store is worth the delay.
"""

import asyncio

from pipeline.mailbox import Mailbox

OVERLAP_RECORDS = 1_000


class Pace:
    """Holds `route` back while `aggregate` works, for one run of it at most."""

    def __init__(self, routing: Mailbox, applying: Mailbox) -> None:
        """Watch what waits for the two steps."""
        self._routing = routing
        self._applying = applying
        self._busy = False
        self._runs = 0
        self._changed = asyncio.Event()

    def applying_begins(self) -> None:
        """Say that `aggregate` has taken what waited for it."""
        self._busy = True
        self._changed.set()

    def applying_ends(self) -> None:
        """Say that it is done with that."""
        self._busy = False
        self._runs += 1
        self._changed.set()

    def more_to_route(self) -> None:
        """Say that something came for `route`."""
        self._changed.set()

    async def turn_to_route(self) -> None:
        """Return when a batch may be routed."""
        runs = self._runs
        while not self._may_route(runs):
            self._changed.clear()
            await self._changed.wait()

    def _may_route(self, runs: int) -> bool:
        if self._runs > runs:
            return True
        if self._applying.records:
            return False
        return not self._busy or self._routing.records >= OVERLAP_RECORDS
