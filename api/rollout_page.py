"""state and reports of rollouts → a row for machines: what is rolled out, and how it does."""

from collections.abc import Mapping
from typing import Any

import msgspec

from models.rollout import RolloutState
from models.rollout_rules import readings
from models.rollout_signals import Signals, signals_of
from models.rollout_store import RolloutStore


async def look(store: RolloutStore) -> tuple[RolloutState, Signals | None]:
    """Return the state, and what all workers saw in the step of its rollout.

    Raises:
        RegistryUnavailable: The store did not answer.
    """
    state = await store.read()
    rollout = state.rollout
    if rollout is None:
        return state, None
    reports, judged = await store.reports(), await store.judged()
    return state, signals_of(rollout.number, rollout.step, reports, judged)


def row_of(state: RolloutState, signals: Signals | None) -> Mapping[str, Any]:
    """Return the state for machines, with each signal's reading."""
    rollout = state.rollout
    row: dict[str, Any] = {"line": state.line, "revision": state.revision, "rollout": None}
    if rollout is None or signals is None:
        return row
    shown = msgspec.to_builtins(rollout)
    shown["candidate"] = str(rollout.candidate)
    shown["share"] = rollout.share
    shown["signals"] = msgspec.to_builtins(signals)
    shown["readings"] = [one._asdict() for one in readings(rollout, signals)]
    return row | {"rollout": shown}
