"""A line makes log-odds probabilities, and is taken only where that is true of newer rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.calibration import (
    FRAUDS_MIN,
    IDENTITY,
    SHIFT_MAX,
    SLOPE_MAX,
    SLOPE_MIN,
    Line,
    better_line,
    brier_of,
    fit_line,
)

Floats = NDArray[np.float64]


def judged(count: int, seed: int, a: float, b: float) -> tuple[Floats, NDArray[np.uint8], Floats]:
    """Rows whose true log-odds are a · logit + b."""
    draws = np.random.default_rng(seed)
    logit = draws.normal(0, 2, count)
    chance = 1 / (1 + np.exp(-(a * logit + b)))
    return logit, (draws.random(count) < chance).astype(np.uint8), np.ones(count)


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.5, -3.0), (2.0, 1.0)])
def test_the_line_that_made_the_labels_is_found(a: float, b: float) -> None:
    logit, y, w = judged(60_000, 1, a, b)
    found = fit_line(logit, y, w)
    assert found.a == pytest.approx(a, rel=0.08)
    assert found.b == pytest.approx(b, abs=0.1)


def test_no_line_near_it_fits_better() -> None:
    """Against a grid: the loss of the fit is the least, its pull to the identity included."""
    logit, y, w = judged(3_000, 2, 0.7, -1.0)
    w = np.linspace(0.5, 3, 3_000)

    def loss(a: float, b: float) -> float:
        margin = np.where(y == 1, 1, -1) * (a * logit + b)
        return float(np.sum(w * np.log1p(np.exp(-margin))) + 0.5 * ((a - 1) ** 2 + b**2))

    a, b = fit_line(logit, y, w)
    steps = np.linspace(-0.2, 0.2, 9)
    assert min(loss(a + s, b + t) for s in steps for t in steps) >= loss(a, b) - 1e-6


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 400),
    st.floats(-3, 3),
    st.floats(-6, 6),
    st.integers(0, 9),
    st.sampled_from([IDENTITY, Line(0.5, -2.0), Line(3.0, 4.0)]),
)
def test_the_newest_rows_never_get_worse(
    count: int, a: float, b: float, seed: int, now: Line
) -> None:
    """Whatever was true, inverted beliefs included: Brier on the newest quarter does not rise."""
    logit, y, w = judged(count, seed, a, b)
    line = better_line(now, logit, y, w)
    newest = slice(count - count // 4, None)
    before = brier_of(now.of(logit[newest]), y[newest], w[newest])
    assert brier_of(line.of(logit[newest]), y[newest], w[newest]) <= before
    if line != now:
        assert SLOPE_MIN <= line.a <= SLOPE_MAX
        assert abs(line.b) <= SHIFT_MAX
        assert line == better_line(now, logit, y, w)


def test_a_few_frauds_move_nothing() -> None:
    logit, y, w = judged(400, 3, 1.0, -3.0)
    y[np.flatnonzero(y)[FRAUDS_MIN - 1 :]] = 0
    assert better_line(Line(2.0, 1.0), logit, y, w) == Line(2.0, 1.0)


def test_separated_rows_cannot_blow_the_slope_up() -> None:
    logit = np.repeat([-1.0, 1.0], 500)
    y = (logit > 0).astype(np.uint8)
    assert fit_line(logit, y, np.ones(1_000)).a <= SLOPE_MAX


def test_what_became_true_again_is_left_alone_again() -> None:
    """After members were put right, the line of old days gives way to none."""
    logit, y, w = judged(20_000, 5, 1.0, 0.0)
    found = better_line(Line(1.0, -4.0), logit, y, w)
    assert found.a == pytest.approx(1, abs=0.15)
    assert found.b == pytest.approx(0, abs=0.15)
