"""Rollout, Signals, now → the next Rollout: when it goes on, is promoted, or turns back.

Plain functions: whoever asks with the same arguments gets the same answer. Whoever decides writes
the answer by a compare-and-set, so of several that decide at once one wins; a turn back is tried
again on whatever the others made of it, unless it is a promotion.
"""

import msgspec

from models.rollout import FULL, CannotRoll, Plan, Rollout, RolloutState, Stage, Target
from models.rollout_counts import ArmCounts
from models.rollout_signals import Reading, Signals, readings_of


def started(
    state: RolloutState, candidate: Target, plan: Plan, by: str, why: str, now_ms: int
) -> RolloutState:
    """Return the state with a new rollout at its first step.

    Raises:
        CannotRoll: Another one is running, or its end is not settled; or the candidate is what
            answers already.
    """
    last = state.rollout
    if last is not None and not is_over(last):
        raise CannotRoll(f"rollout {last.number} of {last.candidate} is not over: abort it first")
    if candidate == Target(line=state.line):
        raise CannotRoll(f"{candidate} is what answers already")
    number = last.number + 1 if last is not None else 1
    rollout = Rollout(
        number=number,
        candidate=candidate,
        plan=plan,
        started_ms=now_ms,
        step_since_ms=now_ms,
        by=by,
        why=why,
    )
    return replaced(state, rollout)


def next_step(rollout: Rollout, signals: Signals, now_ms: int) -> Rollout:
    """Return what the rollout should be now: itself, one step on, promoted, or turned back.

    A breached signal turns it back, whatever else holds. No step is skipped; without enough
    decisions in time it turns back too, so it always ends.
    """
    if not rollout.running:
        return rollout
    breaches = breaches_of(rollout, signals)
    if breaches:
        return turned_back(rollout, "; ".join(one.text for one in breaches), now_ms)
    step = rollout.plan.steps[rollout.step]
    baked_s = (now_ms - rollout.step_since_ms) / 1000 - step.bake_s
    is_last = rollout.step + 1 == len(rollout.plan.steps)
    if baked_s < 0 or (is_last and not rollout.plan.promotes):
        return rollout
    seen = contender_of(rollout, signals).decisions
    if seen >= step.decisions_min and is_compared(rollout, signals):
        return advanced(rollout, now_ms)
    if baked_s >= rollout.plan.patience_s:
        what = f"only {seen} of {step.decisions_min} decisions came in time"
        if seen >= step.decisions_min:
            what = "too little came in time to compare it with"
        return turned_back(rollout, f"step {rollout.step + 1}: {what}", now_ms)
    return rollout


def advanced(rollout: Rollout, now_ms: int) -> Rollout:
    """Return the rollout at its next step, or promoted after the last one.

    Raises:
        CannotRoll: It is over.
    """
    if not rollout.running:
        raise CannotRoll(f"rollout {rollout.number} is over: {rollout.stage}")
    if rollout.step + 1 == len(rollout.plan.steps):
        return promoted(rollout, "every step was passed", now_ms)
    return msgspec.structs.replace(rollout, step=rollout.step + 1, step_since_ms=now_ms)


def promoted(rollout: Rollout, because: str, now_ms: int) -> Rollout:
    """Return the rollout with its candidate as what answers from now on.

    Raises:
        CannotRoll: It is over, or the candidate has only been a shadow.
    """
    if not rollout.running:
        raise CannotRoll(f"rollout {rollout.number} is over: {rollout.stage}")
    if rollout.plan.steps[-1].share == 0.0:
        raise CannotRoll(f"rollout {rollout.number} is a shadow: it has nothing to promote to")
    return _ended(rollout, "promoted", because, now_ms)


def turned_back(rollout: Rollout, because: str, now_ms: int) -> Rollout:
    """Return the rollout rolled back; one that is over stays as it is."""
    return _ended(rollout, "rolled_back", because, now_ms) if rollout.running else rollout


def aborted(rollout: Rollout, because: str, now_ms: int) -> Rollout:
    """Return the rollout given up by a person.

    Raises:
        CannotRoll: It is over.
    """
    if not rollout.running:
        raise CannotRoll(f"rollout {rollout.number} is over: {rollout.stage}")
    return _ended(rollout, "aborted", because, now_ms)


def settled(state: RolloutState) -> RolloutState:
    """Return the state after the promoted version was pinned, or its pin lifted."""
    assert state.rollout is not None and state.rollout.stage == "promoted"
    return replaced(state, msgspec.structs.replace(state.rollout, settled=True))


def replaced(state: RolloutState, rollout: Rollout) -> RolloutState:
    """Return the state that follows by this rollout; a promoted one's line answers from now on."""
    line = rollout.candidate.line if rollout.stage == "promoted" else state.line
    return RolloutState(revision=state.revision + 1, line=line, rollout=rollout)


def readings(rollout: Rollout, signals: Signals) -> list[Reading]:
    """Return every signal of the present step with its limit, breached or not."""
    stable, contender = _compared(rollout, signals)
    arm = contender_of(rollout, signals)
    return readings_of(stable, contender, arm, signals, rollout.plan.limits)


def breaches_of(rollout: Rollout, signals: Signals) -> list[Reading]:
    """Return the signals that are beyond their limits."""
    return [one for one in readings(rollout, signals) if one.breached]


def contender_of(rollout: Rollout, signals: Signals) -> ArmCounts:
    """Return the counts that the present step is judged by: the shadow's until it answers."""
    return signals.shadow if is_shadow(rollout) else signals.candidate


def is_shadow(rollout: Rollout) -> bool:
    """Whether the candidate answers nothing in the present step."""
    return rollout.plan.steps[rollout.step].share == 0.0


def is_compared(rollout: Rollout, signals: Signals) -> bool:
    """Whether enough was seen of both sides; at the full share that may be never."""
    if rollout.plan.steps[rollout.step].share == FULL:
        return True
    stable, contender = _compared(rollout, signals)
    return min(stable.decisions, contender.decisions) >= rollout.plan.limits.compare_min


def _compared(rollout: Rollout, signals: Signals) -> tuple[ArmCounts, ArmCounts]:
    """Return the two sides that are held against each other.

    Two arms of different entities at the same time; where one arm has them all, what both versions
    say of the very same events.
    """
    if rollout.plan.steps[rollout.step].share in (0.0, FULL):
        return signals.beside, signals.shadow
    return signals.stable, signals.candidate


def is_over(rollout: Rollout) -> bool:
    """Whether nothing is left to do: it ended, and what a promotion entails was done."""
    return not rollout.running and (rollout.stage != "promoted" or rollout.settled)


def _ended(rollout: Rollout, stage: Stage, because: str, now_ms: int) -> Rollout:
    return msgspec.structs.replace(rollout, stage=stage, because=because, ended_ms=now_ms)
