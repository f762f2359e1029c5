"""workers, operators → the shelf on which the state of rollouts stands, beside the registry.

One document says which line answers and what is rolled out. It is replaced whole, by a
compare-and-set on its revision, together with the act that says who did it and why.
"""

from typing import Protocol

from models.rollout import RolloutAct, RolloutState
from models.rollout_signals import JudgedReport, Report

HISTORY_MAX = 1000


class RolloutConflict(RuntimeError):
    """Somebody else changed the state first: read it again."""


class RolloutStore(Protocol):
    """Where workers read what to do, and say what they saw.

    Every call may raise `registry.RegistryUnavailable`.
    Implementations: `rollout_redis.RedisRolloutStore`, `tests.fakes_rollout.MemoryRolloutStore`.
    """

    async def read(self) -> RolloutState:
        """Return the state; revision 0 before the first change."""

    async def replace(self, state: RolloutState, act: RolloutAct) -> None:
        """Put a state in place of the one of the revision before, and write the act down.

        Raises:
            RolloutConflict: The revision that stands is not `state.revision - 1`.
        """

    async def history(self) -> list[RolloutAct]:
        """Return the last `HISTORY_MAX` acts, newest first."""

    async def report(self, worker: str, report: Report) -> None:
        """Replace a worker's report; forgotten after `report_ttl_s`."""

    async def reports(self) -> dict[str, Report]:
        """Return worker → report, of those that reported lately; unreadable ones are left out."""

    async def report_judged(self, report: JudgedReport) -> None:
        """Replace what is known of the decisions of a rollout."""

    async def judged(self) -> JudgedReport | None:
        """Return the newest of these reports; None before the first."""

    async def take_lease(self, owner: str, ttl_s: float) -> bool:
        """Take or renew the right to decide for `ttl_s`; return whether it is ours.

        It spares work, no more: what two deciders do at once is settled by `replace`.
        """
