"""refusals → pauses in which a refused connection is not read: refusing cannot become all the work.

A refusal costs a tenth of an answer. Clients that come again at once, whatever `Retry-After` says,
could have all of a worker's time for it, and what was accepted would miss its deadline. Up to a
rate nobody is held up; beyond it each refused connection is read again in its turn, and what its
peer sends meanwhile waits in the kernel.
Source: Mogul, Ramakrishnan, "Eliminating Receive Livelock in an Interrupt-Driven Kernel" (1997).
"""

from typing import Final

REFUSALS_PER_S: Final = 1_000.0
"""Refusals for overload of one worker; they take about a tenth of a core."""
BURST_S: Final = 0.1
"""Of refusals that are not held up after a calm."""


class Brake:
    """Gives turns to the refused connections of one worker."""

    def __init__(self, refusals_per_s: float = REFUSALS_PER_S) -> None:
        """Bound the refusals per second."""
        self._apart_s = 1.0 / refusals_per_s
        self._next = 0.0

    def turn(self, now: float) -> float:
        """Return when a connection that was just refused may be read again.

        Args:
            now: Monotonic seconds; a turn that is not later means at once.
        """
        self._next = max(self._next + self._apart_s, now - BURST_S)
        return self._next
