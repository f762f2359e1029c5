"""an event → the decision that it would get now: scored and explained, and nothing comes of it."""

import asyncio
import time
from typing import Final

import msgspec

from api.decide import Decider
from api.errors import Overloaded
from api.seen import Asked
from features.event import Event
from models.decision import Source, answer_of, encode_decision

DRY_RUNS_IN_FLIGHT_MAX: Final = 32
"""They share the scorer's loop with decisions that count, and must not crowd them out."""


class DryRuns:
    """The step behind `POST /v1/decisions:dry-run`.

    It reads as a decision does, and writes nowhere: not to the log, not to the claims, not to the
    overlay, and to no counter of decisions.
    """

    def __init__(self, decider: Decider, features_timeout_s: float) -> None:
        """Take the step, and the longest wait for the features (seconds)."""
        self._decider = decider
        self._features_timeout_s = features_timeout_s
        self._in_flight = 0

    async def answer(self, event: Event, deadline_at: float) -> bytes:
        """Return the body of the answer.

        Args:
            event: What would happen.
            deadline_at: When the answer is worthless, on the clock of `time.perf_counter`.

        Raises:
            Overloaded: `DRY_RUNS_IN_FLIGHT_MAX` are being answered.
        """
        if self._in_flight >= DRY_RUNS_IN_FLIGHT_MAX:
            raise Overloaded(f"{self._in_flight} dry runs are being answered")
        self._in_flight += 1
        try:
            wait_s = min(self._features_timeout_s, max(0.001, deadline_at - time.perf_counter()))
            seen = await self._decider.look([event], wait_s)
            await asyncio.sleep(0)  # let what counts go first
            [record] = self._decider.decide([Asked(event, Source(door="http"))], seen, dry=True)
        finally:
            self._in_flight -= 1
        return encode_decision(msgspec.structs.replace(answer_of(record), status="dry_run"))
