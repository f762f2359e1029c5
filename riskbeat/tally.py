"""decisions as they were made, with the truth → how good they were, third by third.

The truth comes from the log that was replayed, not from labels, so that a fraud whose label has not
arrived yet counts too. The learner never sees it.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.decision import DecisionRecord
from models.decision_codec import decode_vector
from models.evaluation import average_precision

ALERTS_SHOWN = 6
THIRDS = 3
FIRST_VERSION = 1  # the prior: as old as the learner's start, and nothing was learned yet


@dataclass(slots=True)
class Tally:
    """What was decided about each event of one log.

    Attributes:
        index_of: Event id → position in the log (0 …).
        is_fraud: uint8 (0 or 1), shape (n_events,), in log order.
        n_features: Length of a vector.
        weights_age_ms: Age of the weights at each decision, once something had been learned.
    """

    index_of: Mapping[str, int]
    is_fraud: NDArray[np.uint8]
    n_features: int
    decided: NDArray[np.bool_] = field(init=False)
    logit: NDArray[np.float64] = field(init=False)
    vectors: NDArray[np.float32] = field(init=False)
    weights_age_ms: list[int] = field(default_factory=list)
    repeats: int = 0
    strangers: int = 0
    degraded: int = 0
    newest_index: int = -1
    alerts: deque[DecisionRecord] = field(default_factory=lambda: deque(maxlen=ALERTS_SHOWN))

    def __post_init__(self) -> None:
        """Make room for every event of the log."""
        events = len(self.is_fraud)
        self.decided = np.zeros(events, np.bool_)
        self.logit = np.zeros(events)
        self.vectors = np.full((events, self.n_features), np.nan, np.float32)

    def add(self, record: DecisionRecord) -> None:
        """Count one decision; the first one about an event is the one that was given."""
        index = self.index_of.get(record.event_id)
        if index is None:
            self.strangers += 1
            return
        if self.decided[index]:
            self.repeats += 1
            return
        self.decided[index] = True
        self.degraded += bool(record.degraded)
        if record.score.logit is not None:
            self.logit[index] = record.score.logit
        self.vectors[index] = decode_vector(record.vector)
        if record.model is not None and record.model.version > FIRST_VERSION:
            self.weights_age_ms.append(record.model.age_ms)
        self.newest_index = max(self.newest_index, index)
        if record.outcome != "approve":
            self.alerts.append(record)

    def third(self, number: int) -> slice:
        """Return the places of one third (0, 1, 2) of the log."""
        events = len(self.is_fraud)
        return slice(events * number // THIRDS, events * (number + 1) // THIRDS)

    @property
    def first_third_done(self) -> bool:
        """Whether decisions have passed the first third of the log."""
        return bool(self.newest_index >= self.third(0).stop)

    def frauds(self, number: int) -> int:
        """Return how many decided events of a third are frauds."""
        part = self.third(number)
        return int(self.is_fraud[part][self.decided[part]].sum())

    def average_precision(self, number: int, logit: NDArray[np.float64] | None = None) -> float:
        """Return the average precision of a third, of the scores given or of others instead.

        NaN where the third has no decided fraud.
        """
        part = self.third(number)
        decided = self.decided[part]
        scores = self.logit if logit is None else logit
        return average_precision(self.is_fraud[part][decided], scores[part][decided])

    def average_precision_so_far(self) -> float:
        """Return the average precision of everything decided."""
        return average_precision(self.is_fraud[self.decided], self.logit[self.decided])
