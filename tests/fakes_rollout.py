"""The state of rollouts in memory: it works, and time passes when a test says so."""

import time
from collections.abc import Callable

from models.rollout import RolloutAct, RolloutState
from models.rollout_signals import JudgedReport, Report
from models.rollout_store import RolloutConflict


class MemoryRolloutStore:
    """`models.rollout_store.RolloutStore` in a few attributes."""

    def __init__(
        self, report_ttl_s: float = 30.0, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._ttl_s = report_ttl_s
        self._now_s = now_s
        self._state = RolloutState()
        self._acts: list[RolloutAct] = []
        self._reports: dict[str, tuple[float, Report]] = {}
        self._judged: JudgedReport | None = None
        self._lease = ("", 0.0)

    async def read(self) -> RolloutState:
        return self._state

    async def replace(self, state: RolloutState, act: RolloutAct) -> None:
        if state.revision != self._state.revision + 1:
            raise RolloutConflict(f"revision {state.revision - 1} no longer stands")
        self._state = state
        self._acts.insert(0, act)

    async def history(self) -> list[RolloutAct]:
        return list(self._acts)

    async def report(self, worker: str, report: Report) -> None:
        self._reports[worker] = (self._now_s() + self._ttl_s, report)

    async def reports(self) -> dict[str, Report]:
        now_s = self._now_s()
        return {name: one for name, (until_s, one) in self._reports.items() if until_s > now_s}

    async def report_judged(self, report: JudgedReport) -> None:
        self._judged = report

    async def judged(self) -> JudgedReport | None:
        return self._judged

    async def take_lease(self, owner: str, ttl_s: float) -> bool:
        now_s = self._now_s()
        if self._lease[0] in ("", owner) or self._lease[1] <= now_s:
            self._lease = (owner, now_s + ttl_s)
        return self._lease[0] == owner
