"""the state of rollouts → this worker: what it answers with; what it saw → the state.

Each worker, again and again: 1 read the state · 2 hold what it names, and answer by it · 3 report
what the arms did · 4 with the lease, decide on all reports · 5 write the decision, by
compare-and-set. A worker that has not heard of the state for a while answers with the stable arm
alone: a turn back may have been missed.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from api.rollout import Rollouts, Running
from api.rollout_counts import ArmTally
from api.rollout_lines import (
    CANDIDATE,
    CandidateLoader,
    Line,
    Lines,
    SwitchedScorer,
    holds,
    slot_of,
)
from features.spec import Spec
from models.registry import RegistryUnavailable
from models.rollout import (
    FULL,
    SYSTEM,
    ActName,
    CannotRoll,
    Rollout,
    RolloutAct,
    RolloutState,
    Target,
)
from models.rollout_acts import act_of, change, release, settle
from models.rollout_arms import ArmPicker
from models.rollout_rules import is_over, next_step, replaced, turned_back
from models.rollout_signals import Report, Slot, signals_of
from models.rollout_store import RolloutConflict, RolloutStore
from models.scorer import ACTIVE

HANDOVER_STEPS_MAX: Final = 10
"""Steps for which a promoted version goes on in the candidate's slot while the stable one loads
it; after that, what the line's pointer and gates say counts."""


class Told(Protocol):
    """Who hears of rollouts: the log and the metrics."""

    def rollout_changed(self, act: RolloutAct) -> None:
        """This worker moved a rollout on, promoted it, or turned it back."""

    def rollout_seen(self, state: RolloutState) -> None:
        """The state was read."""

    def rollout_blind(self, detail: str) -> None:
        """The state could not be read for so long that the stable arm answers alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRules:
    """What a keeper is told.

    Attributes:
        worker: A name that no other process has.
        step_s: Pause between two steps.
        lease_ttl_s: A worker that decided and is silent for so long is followed by another.
        blind_s: Without the state for so long, the stable arm answers alone.
    """

    worker: str
    step_s: float
    lease_ttl_s: float
    blind_s: float


class RolloutKeeper:
    """Keeps one worker on the state of rollouts, and takes its turn in deciding.

    Attributes:
        state: As it was read last.
    """

    def __init__(
        self,
        rules: KeepRules,
        spec: Spec,
        store: RolloutStore,
        rollouts: Rollouts,
        tally: ArmTally,
        lines: Lines,
        scorer: SwitchedScorer,
        load: Callable[[Line, Target], CandidateLoader],
        told: Told,
        now_ms: Callable[[], int],
        tick_s: Callable[[], float],
    ) -> None:
        """Take the ports.

        Args:
            rules: What it is told.
            spec: What events look like.
            store: Where the state stands.
            rollouts: What the step that decides answers by.
            tally: What counts its decisions.
            lines: What the worker holds.
            scorer: What answers for the stable arm.
            load: Line, candidate → what holds a version that is not the line's active one.
            told: Who hears of it.
            now_ms: Wall clock, milliseconds since 1970.
            tick_s: Monotonic seconds.
        """
        self._rules = rules
        self._spec = spec
        self._store = store
        self._rollouts = rollouts
        self._tally = tally
        self._lines = lines
        self._scorer = scorer
        self._load = load
        self._told = told
        self._now_ms = now_ms
        self._tick_s = tick_s
        self._heard_s = tick_s()
        self._loader: CandidateLoader | None = None
        self._handing_over = 0
        self.state = RolloutState()

    async def run(self, stopping: asyncio.Event) -> None:
        """Step until told to stop; an absent store is waited for."""
        while not stopping.is_set():
            try:
                await self.step()
            except RegistryUnavailable as error:
                self._look_away(str(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rules.step_s):
                    await stopping.wait()
        await self._lines.close()

    async def step(self) -> None:
        """Do what the module says, once.

        Raises:
            RegistryUnavailable: The store did not answer.
        """
        state = await self._store.read()
        self._heard_s = self._tick_s()
        self.state = state
        self._told.rollout_seen(state)
        rollout = state.rollout
        await self._hold(state)
        self._answer_by(state)
        if rollout is None or is_over(rollout):
            return
        await self._store.report(self._rules.worker, self._report(rollout))
        if not await self._store.take_lease(self._rules.worker, self._rules.lease_ttl_s):
            return
        with contextlib.suppress(RolloutConflict, CannotRoll):  # somebody else was first
            if rollout.running:
                await self._decide(state, rollout)
            else:
                after = await settle(self._store, self._registry_of, state, self._now_ms())
                self._tell("settle", after)

    async def _hold(self, state: RolloutState) -> None:
        """Hold the lines and the version that the state names, and no others."""
        names, wanted = {state.line}, None
        self._lines.line(state.line)
        rollout = state.rollout
        if rollout is not None and not is_over(rollout):
            line = self._lines.line(rollout.candidate.line)
            names.add(rollout.candidate.line)
            wanted = rollout.candidate if slot_of(rollout.candidate) != ACTIVE else None
            if wanted is not None and (self._loader is None or self._loader.target != wanted):
                self._loader, self._handing_over = self._load(line, wanted), 0
        if wanted is not None and self._loader is not None:
            await self._loader.step()
        elif self._loader is not None and self._is_taken_over(state):
            self._rollouts.running = None
            self._loader.drop()
            self._loader = None
        if self._rollouts.running is None or wanted is None:
            await self._lines.only(names)

    def _is_taken_over(self, state: RolloutState) -> bool:
        """Whether nothing is lost without the candidate's slot: the stable arm has its version.

        After a promotion the line's pointer moves first, and its scorer a moment later.
        """
        rollout = state.rollout
        if rollout is None or rollout.stage != "promoted":
            return True
        scorer = self._lines.line(state.line).scorer
        active, candidate = holds(scorer, ACTIVE), holds(scorer, CANDIDATE)
        is_newer = rollout.candidate.at == "latest" and active > candidate
        self._handing_over += 1
        return active == candidate or is_newer or self._handing_over > HANDOVER_STEPS_MAX

    def _answer_by(self, state: RolloutState) -> None:
        """Let the step that decides follow the state from the next batch on."""
        scorer = self._lines.line(state.line).scorer
        if holds(scorer, ACTIVE):
            self._scorer.now = scorer
        rollout = state.rollout
        if rollout is None or is_over(rollout):
            if self._loader is None:
                self._rollouts.running = None
            return
        self._tally.begin(rollout.number, rollout.step)
        self._rollouts.running = Running(
            number=rollout.number,
            step=rollout.step,
            picker=ArmPicker(self._spec, rollout),
            candidate=self._lines.line(rollout.candidate.line).scorer,
            slot=slot_of(rollout.candidate),
            shadow=rollout.running and (rollout.plan.shadow or rollout.share in (0.0, FULL)),
            full=rollout.share == FULL,
        )

    def _report(self, rollout: Rollout) -> Report:
        line = self._lines.line(rollout.candidate.line)
        version = holds(line.scorer, slot_of(rollout.candidate))
        detail = line.refused if self._loader is None else self._loader.refused
        slot: Slot = "ready" if version else "refused" if detail else "loading"
        counted = self._tally.counted()
        return Report(
            number=rollout.number,
            step=rollout.step,
            slot=slot,
            detail=detail,
            version=version,
            stable=counted.stable,
            candidate=counted.candidate,
            shadow=counted.shadow,
            beside=counted.beside,
        )

    async def _decide(self, state: RolloutState, rollout: Rollout) -> None:
        reports, judged = await self._store.reports(), await self._store.judged()
        signals = signals_of(rollout.number, rollout.step, reports, judged)
        now_ms = self._now_ms()
        after = next_step(rollout, signals, now_ms)
        if after == rollout:
            return
        if after.stage == "rolled_back":
            why, number = after.because, rollout.number

            def rule(stands: Rollout) -> Rollout:
                if not stands.running:
                    raise CannotRoll(f"rollout {number} is over: {stands.stage}")
                return turned_back(stands, why, now_ms)

            done = await change(self._store, "rollback", rule, SYSTEM, why, now_ms, number)
            await release(self._registry_of, rollout)
            self._tell("rollback", done)
            return
        act: ActName = "promote" if after.stage == "promoted" else "advance"
        done = replaced(state, after)
        why = after.because or f"step {rollout.step + 1} was passed"
        await self._store.replace(done, act_of(act, done, SYSTEM, why, now_ms))
        self._tell(act, done)

    def _tell(self, act: ActName, state: RolloutState) -> None:
        rollout = state.rollout
        assert rollout is not None
        self._told.rollout_changed(act_of(act, state, SYSTEM, rollout.because, self._now_ms()))

    def _look_away(self, detail: str) -> None:
        """Answer with the stable arm alone once nothing was heard for too long."""
        if self._tick_s() - self._heard_s > self._rules.blind_s:
            if self._rollouts.running is not None:
                self._told.rollout_blind(detail)
            self._rollouts.running = None

    def _registry_of(self, line: str) -> Any:
        return self._lines.line(line).registry
