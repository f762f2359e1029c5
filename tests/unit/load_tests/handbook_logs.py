"""Logs of the Handbook's form that a test can make."""

from dataclasses import replace

import numpy as np

from load_tests.handbook_weeks import Log
from load_tests.learning_pass import DAY_MS

PER_DAY = 240


def a_log(days: int, seed: int = 0) -> Log:
    """A tenth are frauds, larger in the first column; sixty cards."""
    draws = np.random.default_rng(seed)
    count = days * PER_DAY
    y = (draws.random(count) < 0.1).astype(np.uint8)
    X = draws.lognormal(0, 1, (count, 3)).astype(np.float32)
    X[:, 0] += 3 * y
    day = np.repeat(np.arange(days), PER_DAY)
    at_ms = day * DAY_MS + np.tile(np.linspace(0, DAY_MS - 1, PER_DAY), days).astype(np.int64)
    card = draws.integers(0, 60, count)
    ids = np.arange(count).astype(np.uint64)
    return Log(X, y, day, card, ids, at_ms, ("a.x", "b.x", "c.x"))


def turned(log: Log, first: int, last: int) -> Log:
    """The log with the labels of some days turned."""
    y = log.y.copy()
    y[log.rows(first, last)] ^= 1
    return replace(log, y=y)
