"""registry → the right to publish, for a while: one learner at a time, the next as soon as it ends.

The lease is a courtesy that saves a standby from trying; what fences for good is the lock on the
join store's file and the compare-and-set of every publication.
"""

from collections.abc import Callable
from contextlib import suppress

from models.registry import RegistryUnavailable, WeightsRegistry

RENEWALS_PER_TTL = 3


class LeaseLost(RuntimeError):
    """Another learner has the lease that this one held."""


class LeaseHeld(RuntimeError):
    """Another learner holds the lease, and goes on holding it."""


class Tenure:
    """One process's hold on the lease."""

    def __init__(
        self,
        registry: WeightsRegistry,
        owner: str,
        ttl_s: float,
        tick_s: Callable[[], float],
    ) -> None:
        """Hold nothing yet.

        Args:
            registry: Who knows the lease.
            owner: A name that no other process has.
            ttl_s: How long the lease outlives its last renewal.
            tick_s: A monotonic clock.
        """
        self._registry = registry
        self._ttl_s = ttl_s
        self._tick_s = tick_s
        self._renewed_s = float("-inf")
        self.owner = owner

    async def take(self, instead_of: str = "") -> str:
        """Ask for the lease; return who has it now."""
        began_s = self._tick_s()
        owner = await self._registry.take_lease(self.owner, self._ttl_s, instead_of)
        if owner == self.owner:
            self._renewed_s = began_s
        return owner

    async def hold(self) -> None:
        """Renew the lease if a third of its time has passed.

        Raises:
            LeaseLost: Another learner has it.
        """
        if self._tick_s() - self._renewed_s < self._ttl_s / RENEWALS_PER_TTL:
            return
        owner = await self.take()
        if owner != self.owner:
            raise LeaseLost(
                f"learner {owner} has taken the lease of this one ({self.owner}), which had not "
                f"renewed it for {self._ttl_s:g} s"
            )

    async def renew(self) -> None:
        """Do as `hold` does, but let an absent registry pass: only publishing needs certainty.

        Raises:
            LeaseLost: Another learner has it.
        """
        with suppress(RegistryUnavailable):
            await self.hold()

    async def leave(self) -> None:
        """Give the lease back, so that the next learner need not wait for its end."""
        await self._registry.release_lease(self.owner)
