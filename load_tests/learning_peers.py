"""XGBoost fitted anew each day on the same vectors: what a nightly retrained model would reach.

300 trees, step .05, depth 5, 90 days of history, labels through day T-8. `base_score=0.5`: from
the base rate, where today's defaults begin, it loses .08 of average precision on this log.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xgboost
from numpy.typing import NDArray

from load_tests.handbook_weeks import LAST_LABELS, Log

TREES, STEP, DEPTH, HISTORY_DAYS = 300, 0.05, 5, 90
SETTINGS = {
    "objective": "binary:logistic",
    "eta": STEP,
    "max_depth": DEPTH,
    "base_score": 0.5,
    "tree_method": "hist",
    "nthread": 1,
    "seed": 1,
}


@dataclass(frozen=True)
class Nightly:
    """What the nightly fits gave.

    Attributes:
        logit: Log-odds by row; 0 where no day was asked.
        cpu_s: Learning and predicting.
        days: How many nights.
        note: How it was measured.
    """

    logit: NDArray[np.float32]
    cpu_s: float
    days: int
    note: str


def fit_daily(log: Log, days: Sequence[int]) -> Nightly:
    """Fit before each of these days on what was known then, and score the day's rows."""
    logit = np.zeros(len(log.y), np.float32)
    cpu_s = 0.0
    for day in days:
        last = day - LAST_LABELS + 1
        known = log.rows(max(0, last - HISTORY_DAYS), last)
        X, today = log.X[known], log.X[log.rows(day, day + 1)]
        start = time.process_time()
        rows = xgboost.DMatrix(X, log.y[known], nthread=1)
        model = xgboost.train(SETTINGS, rows, TREES)
        scored = model.predict(xgboost.DMatrix(today, nthread=1), output_margin=True)
        cpu_s += time.process_time() - start
        logit[log.rows(day, day + 1)] = scored
    note = f"{len(days)} nights, {TREES} trees, {HISTORY_DAYS} days each, one thread"
    return Nightly(logit, cpu_s, len(days), note)


def nightly(log: Log, days: Sequence[int], kept: Path) -> Nightly:
    """Return the nightly fits, from `kept` where they are those of the same rows and settings."""
    made_of = f"{SETTINGS} {TREES} {HISTORY_DAYS} {log.names} {list(days)} {log.X.shape}"
    if kept.exists():
        with np.load(kept) as found:
            if str(found["made_of"]) == made_of:
                cpu_s, told = float(found["cpu_s"]), f"{found['note']}, of an earlier run"
                return Nightly(found["logit"], cpu_s, len(days), told)
    made = fit_daily(log, days)
    np.savez(kept, made_of=made_of, logit=made.logit, cpu_s=made.cpu_s, note=made.note)
    return made
