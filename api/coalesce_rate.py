"""batches answered → how long a question that waits now will wait, and how many go together.

A batch costs something by itself and something for each of its questions, and while it waits for
others (the store, the log) the next one is worked on. So two things are measured apart: how long a
batch takes from its begin to its answers, and how much of this thread's time a question takes.
From the time between answers alone neither can be told: few answers would be taken for slow ones,
fewer let in, and the next batches be smaller still.
"""

from typing import Final, NamedTuple

WEIGHT: Final = 0.2
"""Of the newest batch."""
FORGET: Final = 0.9
"""What is left of the time per question after a batch behind which nobody waited."""

APART: Final = 2.0
"""Mean deviations above the mean that a batch is expected to take, as for a retransmission timer
(Jacobson, "Congestion Avoidance and Control", 1988)."""


class Limits(NamedTuple):
    """Bounds of a queue and its batches.

    Attributes:
        batch_max: Questions per batch.
        batch_max_s: And at most as many as cost this much of the thread's time, but `batch_least`.
        waiting_max: Questions that may wait; one more is refused.
        bulk_waiting_max: Questions of lists that may wait.
        in_flight_max: Batches at work at once; one of them at most is of lists.
        queue_target_s: Longest wait that is let in while a queue stands.
    """

    batch_max: int = 256
    waiting_max: int = 2_048
    bulk_waiting_max: int = 4_000
    in_flight_max: int = 4
    queue_target_s: float = 0.020
    batch_max_s: float = 0.010
    batch_least: int = 32


class Rate:
    """Times of a batch and of a question, lately.

    Attributes:
        took_s: Seconds from the begin of a batch to its answers, of which few take longer; 0
            before it is known.
        each_s: Seconds of this thread per answer while questions wait; 0 before it is known.
    """

    __slots__ = ("_answers", "_apart_s", "_cpu_s", "_limits", "_mean_s", "_since")

    def __init__(self, limits: Limits) -> None:
        """Know nothing."""
        self._limits = limits
        self._mean_s = 0.0
        self._apart_s = 0.0
        self._answers = 0.0
        self._cpu_s = 0.0
        self._since: float | None = None

    @property
    def took_s(self) -> float:
        """Seconds of a batch, of which few take longer."""
        return self._mean_s + APART * self._apart_s

    @property
    def each_s(self) -> float:
        """Seconds of this thread per answer; 0 before it is known."""
        return self._cpu_s / self._answers if self._answers else 0.0

    def answered(self, count: int, took_s: float | None, more_wait: bool, cpu_s: float) -> None:
        """Learn from a batch that was just answered.

        Args:
            count: Its questions.
            took_s: Seconds since it began; None: of a list, which says nothing of others.
            more_wait: Whether others wait for their turn, so that what the thread does until the
                next batch is answered is work.
            cpu_s: Seconds that the thread has run so far.
        """
        if took_s is not None:
            apart_s = took_s - self._mean_s
            self._apart_s += (abs(apart_s) - self._apart_s) * WEIGHT if self._mean_s else 0.0
            self._mean_s += apart_s * (WEIGHT if self._mean_s else 1.0)
        if self._since is not None:  # batches count by their questions
            self._cpu_s += (cpu_s - self._since) - self._cpu_s * WEIGHT
            self._answers += count - self._answers * WEIGHT
        elif not more_wait:
            self._cpu_s *= FORGET  # what was slow once need not be so for ever
        self._since = cpu_s if more_wait else None

    def fitting(self) -> int:
        """Return how many questions a batch may have now."""
        limits, each_s = self._limits, self.each_s
        if not each_s:
            return limits.batch_max
        return max(limits.batch_least, min(limits.batch_max, int(limits.batch_max_s / each_s)))

    def begins_in_s(self, waiting: int) -> float:
        """Return after how long a question is begun before which so many wait."""
        between_s = self._mean_s / self._limits.in_flight_max
        return max(waiting * self.each_s, (waiting // self.fitting() + 1) * between_s)
