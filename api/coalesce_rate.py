"""batches answered → how long a question that waits now will wait."""

from typing import Final

WEIGHT: Final = 0.2
FORGET: Final = 0.9


class Rate:
    """The time per question while questions wait; idle times say nothing of it.

    Attributes:
        each_s: Seconds per answered question lately; 0 before it is known.
    """

    __slots__ = ("_since", "each_s")

    def __init__(self) -> None:
        """Know nothing."""
        self.each_s = 0.0
        self._since: float | None = None

    def answered(self, count: int, more_wait: bool, now: float) -> None:
        """Learn from a batch that was just answered.

        Args:
            count: Its questions.
            more_wait: Whether others wait for their turn, so that the time until the next batch
                is done is all work.
            now: Monotonic seconds.
        """
        if self._since is not None:
            each_s = (now - self._since) / count
            self.each_s += (each_s - self.each_s) * (WEIGHT if self.each_s else 1.0)
        elif not more_wait:
            self.each_s *= FORGET  # what was slow once need not be so for ever
        self._since = now if more_wait else None

    def wait_s(self, before: int) -> float:
        """Return how long a question waits that has so many before it, itself included."""
        return (before + 1) * self.each_s
