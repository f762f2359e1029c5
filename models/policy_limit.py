"""hits of rules → the rules that suddenly hit too much, which are halted until somebody looks."""

from collections import deque
from typing import Final

from models.policy_values import HitLimit

MINUTE_MS: Final = 60_000


class HitCounter:
    """How often one rule hit of late, held against its limit. As large as the limit at most."""

    def __init__(self, limit: HitLimit) -> None:
        """Start at no hit."""
        self._limit = limit
        self._allowed = 0 if limit.share is None else int(limit.share * limit.of_last)
        self._decisions: deque[int] = deque()
        self._at_ms: deque[int] = deque()

    def exceeded(self, decision: int, at_ms: int) -> str:
        """Count a hit; return what it is too much of, or nothing.

        Args:
            decision: Number of the decision in this process.
            at_ms: Wall clock.
        """
        limit = self._limit
        if limit.share is not None:
            hits = self._decisions
            hits.append(decision)
            while hits[0] <= decision - limit.of_last:
                hits.popleft()
            if len(hits) > self._allowed:
                return (
                    f"{len(hits)} hits in the last {limit.of_last} decisions, "
                    f"{limit.share:g} of them are allowed"
                )
        if limit.per_minute is not None:
            times = self._at_ms
            times.append(at_ms)
            while times[0] <= at_ms - MINUTE_MS:
                times.popleft()
            if len(times) > limit.per_minute:
                return f"{len(times)} hits in a minute, {limit.per_minute} are allowed"
        return ""
