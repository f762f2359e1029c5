"""What is seen of a candidate: chance is no excuse for a turn back, and no reason for one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.psi import psi
from models.rollout_counts import (
    MODEL_MS_EDGES,
    SCORE_EDGES,
    ArmCounts,
    JudgedCounts,
    model_ms_bin,
    psi_of_counts,
    quantile_ms,
    score_bin,
    wilson,
)
from models.rollout_limits import Limits
from models.rollout_signals import JudgedReport, Reading, Signals, readings_of
from tests.builders_rollout import counts

LIMITS = Limits(compare_min=200)
ROWS = 20_000


def reading(
    signal: str, stable: ArmCounts, contender: ArmCounts, seen: Signals | None = None
) -> Reading:
    found = {
        r.signal: r for r in readings_of(stable, contender, contender, seen or Signals(), LIMITS)
    }
    return found[signal]  # type: ignore[index]


def binned(logits: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[int, ...]:
    places = [score_bin(value) for value in logits.tolist()]
    return tuple(np.bincount(places, minlength=len(SCORE_EDGES) + 1).tolist())


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=2))
def test_counts_add_up_in_any_order(pairs: list[tuple[int, int]]) -> None:
    one, other = (counts(n, alerts=k, degraded=k, fallbacks=k) for n, k in pairs)
    assert one.plus(other) == other.plus(one)
    assert one.plus(ArmCounts()) == one
    assert one.plus(other).decisions == one.decisions + other.decisions
    assert sum(one.plus(other).scores) == sum(one.scores) + sum(other.scores)


@pytest.mark.parametrize("changes", [{"scores": (1, 2)}, {"model_ms": (1,)}])
def test_counts_over_other_edges_are_refused(changes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="other edges"):
        ArmCounts(**changes)  # type: ignore[arg-type]


@given(st.floats(allow_nan=True))
def test_every_score_and_time_has_a_bin(value: float) -> None:
    assert 0 <= score_bin(value) <= len(SCORE_EDGES)
    if not math.isnan(value):
        place = score_bin(value)
        assert place == 0 or SCORE_EDGES[place - 1] <= value
        assert place == len(SCORE_EDGES) or value < SCORE_EDGES[place]
        assert 0 <= model_ms_bin(value) <= len(MODEL_MS_EDGES)


def test_the_bounds_of_a_rate_are_wilsons() -> None:
    # worked by hand: p = 0.1, n = 100, z = 2: (0.12 ± 0.0632...) / 1.04
    low, high = wilson(10, 100, sigmas=2.0)
    assert low == pytest.approx((0.12 - 2 * math.sqrt(0.0009 + 0.0001)) / 1.04)
    assert high == pytest.approx((0.12 + 2 * math.sqrt(0.0009 + 0.0001)) / 1.04)
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 50).low == 0.0
    assert wilson(50, 50).high == pytest.approx(1.0)


def test_a_quantile_of_times_is_bounded_from_above() -> None:
    rng = np.random.default_rng(3)
    times = rng.lognormal(0.0, 1.0, 5_000)
    places = [model_ms_bin(value) for value in times.tolist()]
    held = np.bincount(places, minlength=len(MODEL_MS_EDGES) + 1).tolist()
    for share in (0.5, 0.9, 0.99):
        bound, exact = quantile_ms(held, share), float(np.quantile(times, share))
        assert exact <= bound
        assert MODEL_MS_EDGES[MODEL_MS_EDGES.index(bound) - 1] <= exact
    assert quantile_ms([0] * 19, 0.99) == 0.0


def test_a_shift_of_scores_is_seen_as_the_unbinned_figure_sees_it() -> None:
    rng = np.random.default_rng(5)
    before, now = rng.normal(-4, 1.5, ROWS), rng.normal(-3.2, 1.5, ROWS)
    exact = float(psi(before[:, None].astype(np.float32), now[:, None].astype(np.float32))[0])
    assert psi_of_counts(binned(before), binned(now)) == pytest.approx(exact, rel=0.15)


@pytest.mark.parametrize("rows", [200, 500, 5_000])
def test_two_samples_of_one_distribution_are_no_shift(rows: int) -> None:
    rng = np.random.default_rng(rows)
    found = []
    for _ in range(200):
        before, now = rng.normal(-4, 1.5, rows), rng.normal(-4, 1.5, rows)
        found.append(psi_of_counts(binned(before), binned(now)))
    assert max(found) < Limits().psi
    assert np.mean(found) < 0.03


@pytest.mark.parametrize("towards", [-1, 1])
def test_a_shift_out_of_a_single_bin_is_seen_both_ways(towards: int) -> None:
    assert psi_of_counts(counts(score=20).scores, counts(score=20 + towards).scores) > 1
    assert psi_of_counts(counts(score=20).scores, counts(score=20).scores) == 0
    assert psi_of_counts(counts(0).scores, counts(5).scores) == 0


def test_little_is_compared_with_nothing() -> None:
    few = counts(LIMITS.compare_min - 1, alerts=LIMITS.compare_min - 1, score=40, took=17)
    for one in readings_of(counts(), few, few, Signals(), LIMITS)[2:]:
        assert (one.contender, one.breached) == (None, False)
    for one in readings_of(few, counts(alerts=1000), counts(), Signals(), LIMITS)[2:]:
        assert (one.contender, one.breached) == (None, False)
    assert reading("fallbacks", counts(), counts(0)).contender is None


@pytest.mark.parametrize(
    ("fallbacks", "decisions", "breached"),
    [(2, 0, False), (3, 0, True), (3, 1000, False), (30, 970, True), (0, 1000, False)],
)
def test_events_that_it_fails_to_answer(fallbacks: int, decisions: int, breached: bool) -> None:
    found = reading("fallbacks", counts(), counts(decisions, fallbacks=fallbacks))
    assert found.breached is breached


@pytest.mark.parametrize(
    ("stable", "contender", "breached"),
    [(0, 0, False), (0, 30, False), (0, 100, True), (100, 120, False), (1000, 1000, False)],
)
def test_degraded_answers(stable: int, contender: int, breached: bool) -> None:
    found = reading("degraded", counts(degraded=stable), counts(degraded=contender))
    assert found.breached is breached


@pytest.mark.parametrize(
    ("stable", "contender", "breached"),
    [
        (4, 4, False),
        (4, 11, False),  # 5 ms: as much as it may always take
        (4, 12, True),  # 7.5 ms instead of 0.3
        (13, 14, False),  # 10 and 15 ms
        (13, 16, True),  # 50 ms
    ],
)
def test_a_slow_forward_pass(stable: int, contender: int, breached: bool) -> None:
    found = reading("model_ms", counts(took=stable), counts(took=contender))
    assert found.breached is breached


@pytest.mark.parametrize(
    ("stable", "contender", "breached"),
    [
        (50, 50, False),
        (50, 90, False),
        (50, 250, True),
        (50, 0, True),
        (0, 0, False),
        (2, 8, False),  # four times as many, and by chance all the same
        (0, 100, True),
    ],
)
def test_the_rate_of_alerts_stays_within_its_band(
    stable: int, contender: int, breached: bool
) -> None:
    found = reading("alerts", counts(alerts=stable), counts(alerts=contender))
    assert found.breached is breached


def test_what_nobody_may_load_is_a_breach() -> None:
    seen = Signals(refused="w1: no signature")
    assert reading("refused", counts(), counts(0), seen).breached
    assert not reading("refused", counts(), counts()).breached


def judged(
    caught: float, alerts: float = 200.0, ap: float | None = 0.6, **k: float
) -> JudgedCounts:
    frauds = k.get("frauds", 200.0)
    return JudgedCounts(
        judged=2000, frauds=frauds, alerts=alerts, caught=caught, average_precision=ap
    )


@pytest.mark.parametrize(
    ("signal", "stable", "candidate", "breached"),
    [
        ("recall", judged(150), judged(150), False),
        ("recall", judged(150), judged(140), False),
        ("recall", judged(150), judged(60), True),
        ("recall", judged(10), judged(150), False),
        ("precision", judged(150), judged(150, alerts=400.0), False),
        ("precision", judged(150), judged(150, alerts=2000.0), True),
        ("precision", judged(150), judged(0, alerts=0.0), False),
        ("average_precision", judged(150), judged(150, ap=0.5), False),
        ("average_precision", judged(150), judged(150, ap=0.1), True),
        ("average_precision", judged(150), judged(150, ap=None), False),
        ("average_precision", judged(150, ap=None), judged(150), False),
    ],
)
def test_what_became_of_its_decisions(
    signal: str, stable: JudgedCounts, candidate: JudgedCounts, breached: bool
) -> None:
    report = JudgedReport(number=1, stable=stable, candidate=candidate)
    found = reading(signal, counts(), counts(), Signals(judged=report))
    assert found.breached is breached


def test_few_judged_frauds_say_nothing() -> None:
    report = JudgedReport(number=1, stable=judged(150), candidate=judged(0, frauds=49.0, ap=0.0))
    for signal in ("recall", "precision", "average_precision"):
        assert reading(signal, counts(), counts(), Signals(judged=report)).contender is None
