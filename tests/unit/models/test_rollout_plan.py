"""Candidates are named as they are shown; a senseless plan is refused; a state travels."""

import msgspec
import pytest

from models.rollout import (
    Plan,
    Rollout,
    RolloutState,
    Step,
    Target,
    parse_target,
)
from models.rollout_limits import Limits
from tests.builders_rollout import (
    a_plan,
    a_rollout,
    a_step,
)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("main", Target()),
        ("rival", Target(line="rival")),
        ("main@17", Target(at=17)),
        ("main@latest", Target(at="latest")),
        ("rival@active", Target(line="rival")),
    ],
)
def test_a_candidate_is_named_as_it_is_shown(text: str, target: Target) -> None:
    assert parse_target(text) == target
    assert parse_target(str(target)) == target


@pytest.mark.parametrize("text", ["", "Main", "main@", "main@-1", "main@0", "main@x", "@3", "a b"])
def test_what_names_no_candidate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"name|number|expected"):
        parse_target(text)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((), "needs a step"),
        ((a_step(0.1), a_step(0.1)), "10 %, 10 %"),
        ((a_step(0.5), a_step(0.1)), "must be larger"),
        ((a_step(0.5, bake_s=float("inf")),), "must end"),
    ],
)
def test_steps_that_do_not_grow_are_refused(steps: tuple[Step, ...], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Plan(steps=steps)


def test_a_state_survives_the_journey_to_the_store() -> None:
    rollout = a_rollout(plan=a_plan(limits=Limits(psi=0.4)))
    state = RolloutState(revision=4, line="rival", rollout=rollout)
    assert msgspec.json.decode(msgspec.json.encode(state), type=RolloutState) == state
    assert isinstance(rollout, Rollout)
