"""The learner that ships, following the clock over recorded vectors: no log, no store."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.ensemble import Ensemble
from models.learners import make
from models.space import space_of
from models.taught import Taught
from riskbeat.settings_learners import LearnersSettings

if TYPE_CHECKING:
    from load_tests.adaptation import Log

DAY_MS = 86_400_000
LANE = "delayed"
SLICE_ROWS = 4_096


class Ours:
    """`adaptation.Model`: the ensemble by the settings' defaults, taught through one lane."""

    def __init__(self, log: "Log", seed: int = 1) -> None:
        self._log = log
        settings = LearnersSettings()
        self._ensemble = Ensemble(space_of(log.spec), settings.plan("champion"), seed, make)
        width = len(self._ensemble.predictors)
        self._beliefs = np.zeros((len(log.y), width), np.float32)

    def predict(self, rows: slice) -> NDArray[np.float64]:
        """Return probabilities, and see the vectors as the learner sees decided ones."""
        X = self._log.X[rows]
        p = self._ensemble.predict_many(X)
        self._beliefs[rows] = self._ensemble.predict_each(X)
        self._ensemble.observe_many(X, p)
        self._ensemble.advance(round(self._log.day[rows.stop - 1] * DAY_MS))
        return p

    def learn(self, rows: slice) -> None:
        """Judge what was believed, then learn, then cut a version."""
        for start in range(rows.start, rows.stop, SLICE_ROWS):
            self._learn(slice(start, min(start + SLICE_ROWS, rows.stop)))
        self._ensemble.flush()

    def _learn(self, rows: slice) -> None:
        log = self._log
        ones = np.ones(rows.stop - rows.start, np.float32)
        at_ms = np.round(log.day[rows] * DAY_MS).astype(np.int64)
        taught = Taught(log.X[rows], log.y[rows], ones, log.ids[rows], at_ms)
        self._ensemble.judge_many(self._beliefs[rows], log.y[rows], ones, log.ids[rows], at_ms)
        self._ensemble.learn_many(LANE, taught)
