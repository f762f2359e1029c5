"""refusals → pauses in which a refused connection is not read: refusing cannot become all the work.

A refusal costs a tenth of an answer. Clients that come again at once, whatever `Retry-After` says,
could have all of a worker's time for it, and what was accepted would miss its deadline. Up to a
share of the time nobody is held up; beyond it each refused connection is read again in its turn,
and what its peer sends meanwhile waits in the kernel.
Source: Mogul, Ramakrishnan, "Eliminating Receive Livelock in an Interrupt-Driven Kernel" (1997).
"""

from typing import Final

SHARE: Final = 0.25
"""Of a worker's time that refusals for overload may take."""
WHOLE: Final = 2.0
"""What a refusal costs with reading and writing, in times of what is measured of it."""
BURST_S: Final = 0.1
"""Of refusals that are not held up after a calm."""
COST_S, COST_MAX_S = 50e-6, 1e-3
"""Of one refusal, before it is known and at most: what waited before it was refused is longer."""
WEIGHT: Final = 0.05


class Brake:
    """Gives turns to the refused connections of one worker.

    Attributes:
        cost_s: Seconds that judging a request and refusing it took lately.
    """

    def __init__(self, share: float = SHARE, cost_s: float = COST_S) -> None:
        """Bound the share of the time."""
        self._share = share
        self._next = 0.0
        self.cost_s = cost_s

    def turn(self, now: float, took_s: float) -> float:
        """Return when a connection that was just refused may be read again.

        Args:
            now: Monotonic seconds; a turn that is not later means at once.
            took_s: Seconds since the request's head was complete.
        """
        self.cost_s += (min(took_s, COST_MAX_S) - self.cost_s) * WEIGHT
        self._next = max(self._next + WHOLE * self.cost_s / self._share, now - BURST_S)
        return self._next
