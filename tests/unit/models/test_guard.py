"""Drift quickens learning for a while and says so; causes freeze publishing until a thaw."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from models.drift_river import Adwin
from models.guard import EVENTS_MAX, PSI_TOLD_MAX, Guard
from models.guard_rules import GuardRules
from models.health import HealthRules
from models.label_rates import HOUR_MS
from models.learner import Space
from models.weights import Weights
from tests.builders_weights import an_ensemble, with_arrays

DIGEST = "ab" * 32
N = 6
SPACE = Space(DIGEST, tuple(f"f{number}" for number in range(N)))
DAY_MS = 24 * HOUR_MS
START = 20_000 * DAY_MS
RULES = GuardRules(health=HealthRules(free_labels=0), drift_after_rows=1_000)
WORDS_OF_FLOOD = "labels of source partner within an hour"


def a_guard(rules: GuardRules = RULES, space: Space = SPACE) -> Guard:
    return Guard(rules, space, Adwin)


def decide(
    guard: Guard, rows: int, at_ms: int, p: float = 0.02, seed: int = 1, shift: float = 0.0
) -> None:
    rng = np.random.default_rng(seed)
    X = rng.normal(shift, 1, (rows, N)).astype(np.float32)
    times = at_ms + np.sort(rng.integers(0, HOUR_MS, rows))
    guard.observe_decided(X, rng.beta(50 * p, 50 * (1 - p), rows), times)


def made(factor: float = 1.0) -> Weights:
    weights = replace(an_ensemble(DIGEST, N, seed=1), labels_learned=1_000)
    grown = weights.arrays["delayed.logistic.linear"] * np.float32(factor)
    return with_arrays(weights, delayed__logistic__linear=grown)


def inspect(guard: Guard, factor: float = 1.0) -> list[str]:
    return guard.inspect(made(factor), made(), {}, None)


def test_drift_of_scores_quickens_learning_wears_off_and_is_said() -> None:
    guard = a_guard()
    decide(guard, 20_000, START)
    assert guard.reaction(START + HOUR_MS) == 1
    assert not guard.take_events()
    decide(guard, 4_000, START + HOUR_MS, p=0.10, seed=2)
    (event, *_) = guard.take_events()
    assert (event.name, event.fields["where"]) == ("drift.found", "scores")
    assert not guard.take_events()
    now_ms = START + 2 * HOUR_MS
    half_life_ms = round(RULES.drift_half_life_ms)
    assert 2.5 < guard.reaction(now_ms) <= RULES.drift_pace
    later = guard.reaction(now_ms + half_life_ms) - 1
    assert later == pytest.approx((guard.reaction(now_ms) - 1) / 2)
    assert guard.reaction(now_ms + 40 * half_life_ms) == pytest.approx(1)
    assert guard.figures()["drifts"] >= 1
    assert guard.figures()["drift_pace"] > 1


def test_a_model_that_warms_up_is_not_drift() -> None:
    guard = a_guard(replace(RULES, drift_after_rows=50_000))
    decide(guard, 20_000, START)
    decide(guard, 4_000, START + HOUR_MS, p=0.10, seed=2)
    assert guard.reaction(START + 2 * HOUR_MS) == 1
    assert not guard.take_events()


def test_precision_is_watched_among_alerts_of_each_lane() -> None:
    guard = a_guard()
    decide(guard, 20_000, START)
    p = np.full(2_000, 0.9)
    at_ms = np.full(2_000, START)
    rng = np.random.default_rng(3)

    def outcomes(precision: float, rows: int = 2_000) -> NDArray[np.uint8]:
        return (rng.uniform(size=rows) < precision).astype(np.uint8)

    guard.observe_judged("delayed", outcomes(0.5), p, at_ms)
    guard.observe_judged("feedback", outcomes(0.5), p, at_ms)
    quiet = np.full(30_000, 0.001)  # scores that alert nobody
    guard.observe_judged("feedback", outcomes(0, 30_000), quiet, np.full(30_000, START))
    assert not guard.take_events()
    guard.observe_judged("feedback", outcomes(0.2), p, at_ms)
    assert {event.fields["where"] for event in guard.take_events()} == {"precision.feedback"}


def test_a_feature_that_moved_is_named_once_its_day_has_ended() -> None:
    guard = a_guard()
    decide(guard, 2_000, START)
    decide(guard, 2_000, START + DAY_MS, seed=2)
    decide(guard, 2_000, START + 2 * DAY_MS, seed=3, shift=2.0)
    guard.take_events()
    decide(guard, 10, START + 3 * DAY_MS)
    (told,) = guard.take_events()
    assert (told.fields["where"], told.fields["features"]) == ("features", len(SPACE.names))
    psi = guard.gauges().psi
    worst = sorted(psi, key=lambda name: -psi[name])[:PSI_TOLD_MAX]
    assert told.fields["worst"] == ", ".join(f"{name} {psi[name]:.2f}" for name in worst)
    assert guard.figures()["psi_max"] == max(psi.values()) > 1


def test_what_only_says_the_time_of_day_or_week_does_not_drift() -> None:
    timely = replace(SPACE, calendar=tuple(range(1, SPACE.n)))
    guard = a_guard(space=timely)
    for day in range(3):
        decide(guard, 2_000, START + day * DAY_MS, seed=day, shift=2.0 * (day // 2))
    guard.take_events()
    decide(guard, 10, START + 3 * DAY_MS)
    (told,) = guard.take_events()
    assert told.fields["features"] == 1
    assert str(told.fields["worst"]).startswith(SPACE.names[0])
    assert guard.figures()["psi_max"] == guard.gauges().psi[SPACE.names[0]]


def flood(guard: Guard, count: int, at_ms: int) -> None:
    guard.observe_labels({"partner": count}, {}, at_ms)


def a_guard_that_knows_its_sources() -> tuple[Guard, int]:
    guard = a_guard()
    for hour in range(48):
        flood(guard, 20, START + hour * HOUR_MS)
    return guard, START + 48 * HOUR_MS


def test_a_cause_freezes_until_a_thaw_and_not_again_for_the_same_cause() -> None:
    guard, now_ms = a_guard_that_knows_its_sources()
    guard.hear_frozen(False)
    assert not inspect(guard)
    flood(guard, 900, now_ms)
    guard.hear_frozen(False)
    assert WORDS_OF_FLOOD in inspect(guard)[0]
    assert guard.gauges().causes["labels"]
    guard.hear_frozen(False)  # the record is not written yet: no thaw
    assert inspect(guard)
    guard.hear_frozen(True)
    assert inspect(guard)
    guard.hear_frozen(False)  # an operator thawed
    assert not inspect(guard)
    assert [event.name for event in guard.take_events()] == ["publishing.acknowledged"]
    assert not guard.gauges().causes["labels"]
    flood(guard, 400, now_ms)  # more of it, and not half as much again
    guard.hear_frozen(False)
    assert not inspect(guard)
    flood(guard, 100, now_ms)
    guard.hear_frozen(False)
    assert inspect(guard)  # it got worse: 1400 > 1.5 · 900


def test_a_cause_that_was_gone_freezes_again() -> None:
    guard, now_ms = a_guard_that_knows_its_sources()
    flood(guard, 900, now_ms)
    for frozen, expected in ((False, True), (True, True), (False, False)):
        guard.hear_frozen(frozen)
        assert bool(inspect(guard)) == expected
    flood(guard, 20, now_ms + HOUR_MS)
    guard.hear_frozen(False)
    assert not inspect(guard)
    flood(guard, 900, now_ms + HOUR_MS)
    guard.hear_frozen(False)
    assert inspect(guard)


def test_an_operators_own_freeze_and_thaw_acknowledges_nothing() -> None:
    guard, now_ms = a_guard_that_knows_its_sources()
    for frozen in (False, True, False):
        guard.hear_frozen(frozen)
        assert not inspect(guard)
    flood(guard, 900, now_ms)
    guard.hear_frozen(False)
    assert inspect(guard)


def test_a_number_that_is_not_finite_cannot_be_acknowledged() -> None:
    guard = a_guard()
    bad = with_arrays(made(), delayed__logistic__linear=np.full(N, np.nan, np.float32))
    for frozen in (False, True, False, True, False):
        guard.hear_frozen(frozen)
        assert guard.inspect(bad, made(), {}, None) == [
            "finite delayed.logistic.linear: "
            "delayed.logistic.linear holds a number that is not finite"
        ]
    assert guard.gauges().causes["finite"]


def test_an_explosion_against_the_version_before_is_seen_at_once() -> None:
    guard = a_guard()
    guard.hear_frozen(False)
    (reason,) = inspect(guard, 100.0)
    assert reason.startswith("norm delayed.logistic: norm of delayed.logistic is ")


def test_it_goes_on_from_its_state_bit_for_bit_freezes_and_thaws_included() -> None:
    one, now_ms = a_guard_that_knows_its_sources()
    parts: dict[str, bytes] = {}
    decide(one, 30_000, START)
    parts |= one.state_changes()
    one.observe_judged("feedback", np.ones(50, np.uint8), np.full(50, 0.9), np.full(50, START))
    flood(one, 900, now_ms)
    one.hear_frozen(False)
    assert inspect(one)
    one.hear_frozen(True)
    parts |= one.state_changes()
    other = a_guard()
    other.restore(parts)
    for guard in (one, other):
        decide(guard, 3_000, now_ms, p=0.1, seed=4)
        guard.hear_frozen(False)
        assert not inspect(guard)
    assert other.reaction(now_ms) == one.reaction(now_ms) > 1
    assert other.state_changes() == one.state_changes()
    assert str(other.gauges()) == str(one.gauges())
    fresh = a_guard()
    fresh.restore({})
    assert fresh.reaction(now_ms) == 1


def test_nothing_to_see_changes_nothing_and_facts_are_bounded() -> None:
    guard = a_guard()
    before = guard.state_changes()["core"]
    none = np.zeros(0)
    guard.observe_decided(np.zeros((0, N), np.float32), none, none.astype(np.int64))
    guard.observe_judged("delayed", none.astype(np.uint8), none, none.astype(np.int64))
    assert guard.state_changes()["core"] == before
    assert guard.alert_p == np.inf
    unscored = np.full(5, np.nan)
    guard.observe_decided(np.zeros((5, N), np.float32), unscored, np.full(5, START))
    assert guard.alert_p == np.inf
    for day in range(EVENTS_MAX + 20):
        decide(guard, 300, START + day * DAY_MS, shift=float(9 * (day % 2)), seed=day)
    assert len(guard.take_events()) == EVENTS_MAX
