"""acts of people and of workers → the state of rollouts, by compare-and-set, each one written down.

An advance or a promotion is of the state that it was decided on: if another one stands by then, it
is nothing. A turn back, or a person's act, is tried again on whatever stands, for as long as the
same rollout runs: so it wins against everything but a promotion that was there before it.
"""

from collections.abc import Callable
from typing import Final

from models.registry import NoWeights, WeightsRegistry
from models.rollout import (
    SYSTEM,
    ActName,
    CannotRoll,
    Plan,
    Rollout,
    RolloutAct,
    RolloutState,
    Target,
)
from models.rollout_rules import is_over, replaced, settled, started
from models.rollout_store import RolloutConflict, RolloutStore

TRIES_MAX: Final = 20
"""Conflicts in a row: each means that somebody else changed the state; a rollout has few steps."""

RegistryOf = Callable[[str], WeightsRegistry]
"""Line → its shelf."""
Rule = Callable[[Rollout], Rollout]


def act_of(act: ActName, state: RolloutState, by: str, why: str, now_ms: int) -> RolloutAct:
    """Return the note about the change that led to this state."""
    rollout = state.rollout
    assert rollout is not None, "nothing was rolled out"
    return RolloutAct(
        act=act,
        number=rollout.number,
        candidate=str(rollout.candidate),
        share=rollout.share,
        by=by,
        why=why,
        at_ms=now_ms,
    )


async def start(
    store: RolloutStore,
    registry_of: RegistryOf,
    candidate: Target,
    plan: Plan,
    by: str,
    why: str,
    now_ms: int,
) -> RolloutState:
    """Begin a rollout, and keep the candidate's version on its shelf.

    Raises:
        CannotRoll: Another one is running; or the candidate is what answers already, or is not
            there.
        RolloutConflict: Somebody else began one just now.
    """
    state = started(await store.read(), candidate, plan, by, why, now_ms)
    registry = registry_of(candidate.line)
    standing = await registry.standing()
    if not standing.latest:
        raise CannotRoll(f"no version has been published in line {candidate.line}")
    if isinstance(candidate.at, int):
        try:
            await registry.hold(candidate.at)
        except NoWeights as error:
            raise CannotRoll(f"{candidate}: {error}") from error
    await store.replace(state, act_of("start", state, by, why, now_ms))
    return state


async def change(
    store: RolloutStore,
    act: ActName,
    rule: Rule,
    by: str,
    why: str,
    now_ms: int,
    number: int | None = None,
) -> RolloutState:
    """Change the rollout that runs, whatever step it is at by now.

    Args:
        store: Where it stands.
        act: Its name in the history.
        rule: Rollout → what it becomes.
        by: Who acts.
        why: Free text.
        now_ms: Wall clock.
        number: Of the rollout that is meant; None: the one that runs.

    Raises:
        CannotRoll: There is none, or it is over.
        RolloutConflict: It was changed `TRIES_MAX` times in the meantime.
    """
    for _ in range(TRIES_MAX):
        state = await store.read()
        rollout = state.rollout
        if rollout is None or (number is not None and rollout.number != number):
            raise CannotRoll("no such rollout is running")
        after = replaced(state, rule(rollout))
        try:
            await store.replace(after, act_of(act, after, by, why, now_ms))
        except RolloutConflict:
            continue
        return after
    raise RolloutConflict(f"it was changed {TRIES_MAX} times in the meantime; try again")


async def settle(
    store: RolloutStore, registry_of: RegistryOf, state: RolloutState, now_ms: int
) -> RolloutState:
    """Do what a promotion entails: pin the version that was promoted, or lift a pin.

    May be done twice. Without effect if the rollout was not promoted.

    Raises:
        RolloutConflict: Somebody else did it.
    """
    rollout = state.rollout
    if rollout is None or rollout.stage != "promoted" or is_over(rollout):
        return state
    candidate, why = rollout.candidate, f"rollout {rollout.number}: {rollout.because}"
    registry = registry_of(candidate.line)
    standing = await registry.standing()
    if isinstance(candidate.at, int):
        if not standing.pinned or standing.active != candidate.at:
            try:
                await registry.pin(candidate.at, SYSTEM, why, now_ms)
            except NoWeights as error:
                why = f"{why}; it could not be pinned: {error}"
        await registry.hold(0)
    elif candidate.at == "latest" and standing.pinned:
        await registry.unpin(SYSTEM, why, now_ms)
    after = settled(state)
    await store.replace(after, act_of("settle", after, SYSTEM, why, now_ms))
    return after


async def release(registry_of: RegistryOf, rollout: Rollout) -> None:
    """Let the version of a rollout that ended without a promotion leave its shelf."""
    if isinstance(rollout.candidate.at, int):
        await registry_of(rollout.candidate.line).hold(0)
