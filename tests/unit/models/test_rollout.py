"""A rollout never skips a step, never goes on over a breach, and always ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rollout import (
    CannotRoll,
    Plan,
    RolloutState,
    Step,
    Target,
)
from models.rollout_rules import (
    aborted,
    advanced,
    breaches_of,
    is_over,
    next_step,
    promoted,
    replaced,
    settled,
    started,
    turned_back,
)
from models.rollout_signals import Report, Signals, signals_of
from tests.builders_rollout import (
    BAKE_S,
    DECISIONS_MIN,
    SHARES,
    a_plan,
    a_rollout,
    counts,
)

SOON_MS = round(BAKE_S * 1000)
GOOD = Signals(
    workers=1, ready=1, stable=counts(), candidate=counts(), shadow=counts(), beside=counts()
)
REFUSED = Signals(workers=1, refused="w1: learned with another spec")

shares = st.lists(st.integers(0, 100), min_size=1, max_size=6, unique=True).map(
    lambda percents: tuple(percent / 100 for percent in sorted(percents))
)
plans = st.builds(
    lambda of, bakes, least, patience_s: Plan(
        steps=tuple(
            Step(share=share, bake_s=bake_s, decisions_min=least)
            for share, bake_s in zip(of, bakes, strict=False)
        ),
        patience_s=patience_s,
    ),
    shares,
    st.lists(st.integers(0, 50).map(float), min_size=6, max_size=6),
    st.integers(0, 300),
    st.integers(0, 100).map(float),
)
arms = st.builds(
    counts,
    decisions=st.integers(0, 2000),
    alerts=st.integers(0, 100),
    fallbacks=st.integers(0, 20),
    degraded=st.integers(0, 100),
    score=st.integers(0, 41),
    took=st.integers(0, 18),
)
seen = st.builds(
    Signals,
    refused=st.sampled_from(["", "", "", "it was"]),
    stable=arms,
    candidate=arms,
    shadow=arms,
    beside=arms,
)
calm = st.builds(
    lambda n: Signals(stable=counts(n), candidate=counts(n), shadow=counts(n), beside=counts(n)),
    st.integers(0, 1000),
)
days = st.lists(st.tuples(seen | calm, st.integers(0, 60_000)), max_size=40)


@given(plans, days)
def test_no_step_is_skipped_and_none_comes_back(
    plan: Plan, course: list[tuple[Signals, int]]
) -> None:
    rollout, now_ms = a_rollout(plan=plan), 0
    for signals, passed_ms in course:
        now_ms += passed_ms
        after = next_step(rollout, signals, now_ms)
        assert after.step in (rollout.step, rollout.step + 1)
        if after.stage == "promoted" and rollout.running:
            assert rollout.step == len(plan.steps) - 1
        if not rollout.running:
            assert after == rollout
        rollout = after


@given(plans, days)
def test_what_is_breached_neither_goes_on_nor_is_promoted(
    plan: Plan, course: list[tuple[Signals, int]]
) -> None:
    rollout, now_ms = a_rollout(plan=plan), 0
    for signals, passed_ms in course:
        now_ms += passed_ms
        after = next_step(rollout, signals, now_ms)
        if rollout.running and breaches_of(rollout, signals):
            assert (after.stage, after.step) == ("rolled_back", rollout.step)
            assert after.because
            assert after.share == 0.0
        rollout = after


@given(plans, days)
def test_a_step_is_left_only_when_it_was_baked_and_seen(
    plan: Plan, course: list[tuple[Signals, int]]
) -> None:
    rollout, now_ms = a_rollout(plan=plan), 0
    for signals, passed_ms in course:
        now_ms += passed_ms
        after = next_step(rollout, signals, now_ms)
        if (after.step, after.stage) != (rollout.step, rollout.stage) and (
            after.stage != "rolled_back"
        ):
            step = plan.steps[rollout.step]
            arm = signals.candidate if step.share else signals.shadow
            assert now_ms - rollout.step_since_ms >= 1000 * step.bake_s
            assert arm.decisions >= step.decisions_min
        rollout = after


@given(plans, st.lists(seen | calm, min_size=1, max_size=5))
def test_it_always_ends(plan: Plan, course: list[Signals]) -> None:
    rollout, now_ms = a_rollout(plan=plan), 0
    for turn in range(len(plan.steps)):  # each call waits out the bake and the patience
        now_ms += 200_000
        rollout = next_step(rollout, course[turn % len(course)], now_ms)
    if plan.promotes:
        assert not rollout.running
    else:  # a shadow stays for a person
        assert rollout.stage in ("running", "rolled_back")


@given(plans, st.integers(0, 5), st.booleans())
def test_of_a_race_the_turn_back_wins(plan: Plan, steps: int, rollback_first: bool) -> None:
    """Two read the same state; the loser of the compare-and-set tries on what the winner wrote."""
    rollout = a_rollout(plan=plan)
    for _ in range(min(steps, len(plan.steps) - 1)):
        rollout = advanced(rollout, 0)
    if rollout.step + 1 == len(plan.steps):
        return  # the next advance is a promotion, which is a race of its own
    if rollback_first:
        after = next_step(turned_back(rollout, "psi", 5), GOOD, 1_000_000)
    else:
        after = turned_back(advanced(rollout, 5), "psi", 6)
    assert after.stage == "rolled_back"


def test_a_good_candidate_goes_through_every_step() -> None:
    rollout, now_ms, course = a_rollout(), 0, []
    while rollout.running:
        course.append((rollout.step, rollout.share))
        assert next_step(rollout, GOOD, now_ms + SOON_MS - 1) == rollout
        now_ms += SOON_MS
        rollout = next_step(rollout, GOOD, now_ms)
    assert course == list(enumerate(SHARES))
    assert (rollout.stage, rollout.because) == ("promoted", "every step was passed")
    assert (rollout.ended_ms, rollout.share) == (len(SHARES) * SOON_MS, 1.0)


def test_a_step_without_enough_decisions_waits_and_then_turns_back() -> None:
    rollout = a_rollout(plan=a_plan(patience_s=100.0))
    few = Signals(shadow=counts(DECISIONS_MIN - 1), beside=counts(DECISIONS_MIN - 1))
    assert next_step(rollout, few, SOON_MS + 99_999) == rollout
    over = next_step(rollout, few, SOON_MS + 100_000)
    assert over.stage == "rolled_back"
    assert over.because == "step 1: only 99 of 100 decisions came in time"


def test_at_the_full_share_both_versions_are_asked_about_the_same_events() -> None:
    rollout = a_rollout(plan=a_plan((1.0,)))
    shifted = Signals(candidate=counts(), shadow=counts(score=30), beside=counts())
    assert "PSI" in next_step(rollout, shifted, 1).because
    failing = Signals(candidate=counts(100, fallbacks=50), shadow=counts(), beside=counts())
    assert "failed to answer 50 of 150" in next_step(rollout, failing, 1).because
    unasked = Signals(candidate=counts())  # time was too short for shadows
    assert next_step(rollout, unasked, SOON_MS).stage == "promoted"


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_below_the_full_share_no_step_is_left_uncompared(share: float) -> None:
    rollout = a_rollout(plan=a_plan((share, 1.0), patience_s=10.0))
    alone = Signals(candidate=counts(), shadow=counts(), stable=counts(5), beside=counts(5))
    assert next_step(rollout, alone, SOON_MS) == rollout
    over = next_step(rollout, alone, SOON_MS + 10_000)
    assert over.because == "step 1: too little came in time to compare it with"


def test_a_rollout_without_automatic_promotion_waits_at_its_last_step() -> None:
    rollout = a_rollout(plan=a_plan((1.0,), automatic=False))
    assert next_step(rollout, GOOD, 10 * SOON_MS) == rollout
    assert promoted(rollout, "by hand", 7).stage == "promoted"


def test_a_shadow_is_never_promoted() -> None:
    rollout = a_rollout(plan=a_plan((0.0,)))
    assert next_step(rollout, GOOD, 10 * SOON_MS) == rollout
    for act in (
        lambda: promoted(rollout, "", 0),
        lambda: advanced(rollout, 0),
    ):
        with pytest.raises(CannotRoll, match="is a shadow"):
            act()


def test_what_is_over_stays_over() -> None:
    over = aborted(a_rollout(), "enough seen", 5)
    assert (over.stage, over.because, over.share) == ("aborted", "enough seen", 0.0)
    assert turned_back(over, "late", 9) == over
    assert next_step(over, REFUSED, 10 * SOON_MS) == over
    for act in (
        lambda: aborted(over, "", 0),
        lambda: promoted(over, "", 0),
        lambda: advanced(over, 0),
    ):
        with pytest.raises(CannotRoll, match="is over: aborted"):
            act()


def test_a_candidate_that_no_scorer_may_load_turns_back_at_once() -> None:
    over = next_step(a_rollout(), REFUSED, 0)
    assert over.stage == "rolled_back"
    assert over.because == "a worker refused it: w1: learned with another spec"


def test_the_next_rollout_waits_until_the_last_is_settled() -> None:
    rival, main = Target(line="rival"), Target(line="main")
    state = started(RolloutState(), rival, a_plan((1.0,)), "ann", "a try", 3)
    assert state.rollout is not None
    assert (state.revision, state.line, state.rollout.number) == (1, "main", 1)
    with pytest.raises(CannotRoll, match="rollout 1 of rival is not over"):
        started(state, main, a_plan(), "bob", "", 4)
    state = replaced(state, promoted(state.rollout, "", 5))
    assert (state.revision, state.line) == (2, "rival")
    assert state.rollout is not None
    assert not is_over(state.rollout)
    with pytest.raises(CannotRoll, match="rollout 1 of rival is not over"):
        started(state, main, a_plan(), "bob", "", 6)
    state = settled(state)
    with pytest.raises(CannotRoll, match="rival is what answers already"):
        started(state, rival, a_plan(), "bob", "", 7)
    back = started(state, main, a_plan(), "bob", "back again", 8)
    assert back.rollout is not None
    assert (back.rollout.number, back.line) == (2, "rival")


def test_only_reports_about_the_present_step_are_added_up() -> None:
    reports = {
        "a": Report(number=2, step=1, slot="ready", candidate=counts(3), stable=counts(7)),
        "b": Report(number=2, step=1, slot="loading", candidate=counts(4)),
        "c": Report(number=2, step=0, slot="ready", candidate=counts(100)),
        "d": Report(number=1, step=1, slot="refused", detail="of an earlier rollout"),
    }
    signals = signals_of(2, 1, reports, None)
    assert (signals.workers, signals.ready, signals.refused) == (2, 1, "")
    assert (signals.candidate.decisions, signals.stable.decisions) == (7, 7)
    reports["c"] = Report(number=2, step=0, slot="refused", detail="no signature")
    assert signals_of(2, 1, reports, None).refused == "c: no signature"
