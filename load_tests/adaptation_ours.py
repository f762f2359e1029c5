"""The learner that ships, following the clock over recorded vectors: no log, no store."""

import numpy as np
from numpy.typing import NDArray

from models.ensemble import Ensemble
from models.learner import Space
from models.learners import make
from models.taught import Taught
from riskbeat.settings_learners import LearnersSettings

DAY_MS = 86_400_000
LANE = "delayed"
SLICE_ROWS = 4_096


class Ours:
    """The ensemble by the settings' defaults, taught through one lane."""

    def __init__(
        self,
        X: NDArray[np.float32],
        y: NDArray[np.uint8],
        day: NDArray[np.float64],
        space: Space,
        seed: int = 1,
    ) -> None:
        """Take rows in the order of their events; `day` is event time in days."""
        self._X, self._y = X, y
        self._ids = np.arange(len(y), dtype=np.uint64)
        self._at_ms = np.round(day * DAY_MS).astype(np.int64)
        plan = LearnersSettings.model_validate({}).plan("champion")
        self._ensemble = Ensemble(space, plan, seed, make)
        self._beliefs = np.zeros((len(y), len(self._ensemble.predictors)), np.float32)

    def predict(self, rows: slice) -> NDArray[np.float64]:
        """Return probabilities, and see the vectors as the learner sees decided ones."""
        X = self._X[rows]
        p = self._ensemble.predict_many(X)
        self._beliefs[rows] = self._ensemble.predict_each(X)
        self._ensemble.observe_many(X, p)
        self._ensemble.advance(int(self._at_ms[rows.stop - 1]))
        return p

    def learn(self, rows: slice) -> None:
        """Judge what was believed, then learn, then let nothing wait."""
        for start in range(rows.start, rows.stop, SLICE_ROWS):
            self._learn(slice(start, min(start + SLICE_ROWS, rows.stop)))
        self._ensemble.flush()

    def _learn(self, rows: slice) -> None:
        ones = np.ones(rows.stop - rows.start, np.float32)
        y, ids, at_ms = self._y[rows], self._ids[rows], self._at_ms[rows]
        self._ensemble.judge_many(self._beliefs[rows], y, ones, ids, at_ms)
        self._ensemble.learn_many(LANE, Taught(self._X[rows], y, ones, ids, at_ms))
