"""XGBoost fitted anew each day on the same vectors: what a nightly retrained model would reach.

300 trees, step .05, depth 5, 90 days of history, labels through day T-8. `base_score=0.5`: from
the base rate, where today's defaults begin, it loses .08 of average precision on this log.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

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
    """Log-odds by row (0 where no day was asked), and what learning and predicting took."""

    logit: NDArray[np.float32]
    cpu_s: float


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
    return Nightly(logit, cpu_s)
