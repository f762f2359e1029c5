"""The shipped ensemble, once over recorded vectors: every row scored before its label is told.

It scores six hours of events, sees them, and at a day's end is told the labels of the day seven
days before: so day T is scored by what was known of the days up to T-8.
"""

import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from load_tests.handbook_weeks import LAST_LABELS, Log
from models.ensemble import Ensemble
from models.learner import Space
from models.learners import make
from models.plan import Member, Plan
from models.taught import Taught

SLICE_MS = 6 * 3_600_000
DAY_MS = 86_400_000
PLAN = Plan(
    lanes={
        "delayed": {"network": Member("network", {"averaging": 1000}), "boosted": Member("boosted")}
    },
    keep_rows=600_000,
    keep_frauds=8_192,
)
"""All labels are late here, so it is the delayed lane that learns; the other has no say. Learners
are those of the settings' defaults, with a memory and averages as long as this log's habits (ADR
0031): RISKBEAT_RESERVOIR_ROWS=600000, RISKBEAT_RESERVOIR_FRAUDS=8192, `averaging` 1000."""


@dataclass(frozen=True)
class Pass:
    """Log-odds of every row as they were when it came, and what that took.

    Attributes:
        logit: Of the ensemble.
        each: Of its predictors, shape (rows, predictors).
        predictors: Their names.
        cpu_s: Seeing, scoring, learning, judging, and making a version a day.
    """

    logit: NDArray[np.float32]
    each: NDArray[np.float32]
    predictors: tuple[str, ...]
    cpu_s: float


def taught(log: Log, place: slice) -> Taught:
    """Return rows with their labels, each standing for itself."""
    ones = np.ones(place.stop - place.start, np.float32)
    return Taught(log.X[place], log.y[place], ones, log.ids[place], log.at_ms[place])


def slices(log: Log, day: int) -> list[slice]:
    """Cut a day into pieces of `SLICE_MS`."""
    place = log.rows(day, day + 1)
    first_ms = log.at_ms[place.start] // DAY_MS * DAY_MS
    ends = first_ms + np.arange(0, DAY_MS + 1, SLICE_MS)
    cuts = place.start + np.searchsorted(log.at_ms[place], ends)
    return [slice(int(a), int(b)) for a, b in pairwise(cuts) if b > a]


def one_pass(log: Log, seed: int, days: int, plan: Plan = PLAN) -> Pass:
    """Go over the first days once."""
    torch.set_num_threads(1)
    start = time.process_time()
    ensemble = Ensemble(Space("0" * 64, log.names), plan, seed, make)
    logit = np.zeros(len(log.y), np.float32)
    each = np.zeros((len(log.y), len(ensemble.predictors)), np.float32)
    for day in range(days):
        for place in slices(log, day):
            X = log.X[place]
            each[place] = ensemble.predict_each(X)
            p = ensemble.mix_many(each[place])  # no version is cut here, so no forest fades
            logit[place] = np.log(p) - np.log1p(-p)
            ensemble.observe_many(X, p)
            ensemble.advance(int(log.at_ms[place.stop - 1]))
        known = day - LAST_LABELS + 1
        if known >= 0:
            place = log.rows(known, known + 1)
            rows = taught(log, place)
            ensemble.judge_many(each[place], rows.y, rows.w, rows.ids, rows.at_ms)
            ensemble.learn_many("delayed", rows)
            ensemble.flush()
    return Pass(logit, each, ensemble.predictors, time.process_time() - start)
