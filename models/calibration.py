"""(log-odds, what happened) → a line that makes them probabilities: slope and shift, after Platt.

A line is fitted on the older three quarters of the judged rows and must prove itself on the newest
quarter: it replaces the one in use only where its Brier score is the better one there. So a
calibration never makes the newest judged rows worse, and it is a function of the rows alone.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SLOPE_MIN, SLOPE_MAX = 0.25, 4.0
SHIFT_MAX = 8.0
"""Largest shift, log-odds; a lane that learned from investigated alerts alone needs about 5."""
RIDGE = 1.0
"""Pull towards slope 1 and shift 0, in units of log loss: what few frauds cannot outweigh."""
NEWTON_STEPS_MAX = 30
NEWTON_TOLERANCE = 1e-9
TRIAL_SHARE = 0.25
FRAUDS_MIN = 20
"""Judged frauds below which nothing is fitted."""

Floats = NDArray[np.float64]


class Line(NamedTuple):
    """calibrated = a · log-odds + b, with a in [`SLOPE_MIN`, `SLOPE_MAX`]."""

    a: float = 1.0
    b: float = 0.0

    def of(self, logit: Floats) -> Floats:
        """Return calibrated log-odds."""
        return self.a * logit + self.b


IDENTITY = Line()


def sigmoid(logit: Floats) -> Floats:
    """Return probabilities; exact at the ends, without overflow."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -700.0, 700.0))))


def log_loss(logit: Floats, y: NDArray[np.uint8]) -> Floats:
    """Return the log loss of each row."""
    return np.asarray(np.logaddexp(0.0, np.where(y == 1, -logit, logit)))


def brier_of(logit: Floats, y: NDArray[np.uint8], w: Floats) -> float:
    """Return the weighted mean squared distance of the probability from what happened."""
    return float(np.sum(w * (sigmoid(logit) - y) ** 2) / max(float(np.sum(w)), 1e-12))


def fit_line(logit: Floats, y: NDArray[np.uint8], w: Floats) -> Line:
    """Return the line of least weighted log loss, pulled towards the identity by `RIDGE`.

    Newton's method from the identity; each step is halved until the loss falls.
    Source: Platt, Probabilistic Outputs for Support Vector Machines, 1999.
    """
    at = np.array([1.0, 0.0])
    identity = at.copy()
    columns = np.stack([logit, np.ones(len(logit))])

    def loss(line: Floats) -> float:
        pull = 0.5 * RIDGE * float(np.sum((line - identity) ** 2))
        return float(np.sum(w * log_loss(line @ columns, y))) + pull

    best = loss(at)
    for _ in range(NEWTON_STEPS_MAX):
        p = sigmoid(at @ columns)
        slope = columns @ (w * (p - y)) + RIDGE * (at - identity)
        bend = (columns * (w * p * (1.0 - p))) @ columns.T + RIDGE * np.eye(2)
        step = np.linalg.solve(bend, slope)
        size = 1.0
        while size > NEWTON_TOLERANCE and loss(at - size * step) > best:
            size /= 2.0
        found = loss(at - size * step)
        if best - found < NEWTON_TOLERANCE:
            break
        at, best = at - size * step, found
    a = float(np.clip(at[0], SLOPE_MIN, SLOPE_MAX))
    return Line(a, float(np.clip(at[1], -SHIFT_MAX, SHIFT_MAX)))


def better_line(now: Line, logit: Floats, y: NDArray[np.uint8], w: Floats) -> Line:
    """Return the line to use from now on: the one in use, a new one, or none at all.

    Args:
        now: In use.
        logit: Of judged rows, oldest first.
        y: What happened.
        w: Importance.
    """
    older = len(y) - int(len(y) * TRIAL_SHARE)
    if int(y[:older].sum()) < FRAUDS_MIN:
        return now
    fitted = fit_line(logit[:older], y[:older], w[:older])
    best, least = now, brier_of(now.of(logit[older:]), y[older:], w[older:])
    for line in (fitted, IDENTITY):
        score = brier_of(line.of(logit[older:]), y[older:], w[older:])
        if score < least:
            best, least = line, score
    return best
