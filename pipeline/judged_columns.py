"""judged rows → columns, and a ring of the newest ones: what figures are worked out from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.evaluation import Scored
from models.evaluation_ranking import importance_of

CHAMPION: Final = "champion"
"""Stands for what decided; all other predictors are members and challengers."""
APPROVED: Final = "approve"
DAY_MS: Final = 86_400_000


class Judged(NamedTuple):
    """A prediction and what became of its event.

    Attributes:
        key: Identity hash as a signed 64-bit integer.
        name: Identity.
        event_ms: Event time.
        judged_ms: Event time at which its truth was taken as known.
        y: 1 fraud, 0 legit.
        p: Probability that decided.
        amount: Minor units of the base currency.
        card: Hash of the primary entity; 0 none.
        outcome: What was done.
        propensity: Chance of that, in (0, 1].
        weights_version: That made `p`.
        lane_source: Whose word the truth is (`pipeline.join.SILENCE`: nobody's).
        beliefs: Little-endian float32 log-odds of the predictors, made when the learner took the
            decision in; empty if there are none.
    """

    key: int
    name: str
    event_ms: int
    judged_ms: int
    y: int
    p: float
    amount: float
    card: int
    outcome: str
    propensity: float
    weights_version: int
    lane_source: str
    beliefs: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Judged rows, column by column.

    Attributes:
        champion: The rows, with the probability that decided.
        logits: Predictor → log-odds, float32; NaN where it said nothing.
    """

    champion: Scored
    logits: Mapping[str, NDArray[np.float32]]

    def __len__(self) -> int:
        """Rows held."""
        return len(self.champion)

    @property
    def predictors(self) -> tuple[str, ...]:
        """The champion, and all others by name."""
        return (CHAMPION, *self.logits)

    def scored(self, predictor: str) -> Scored:
        """Return the rows with the probabilities of one predictor."""
        seen = self.champion
        if predictor == CHAMPION:
            return seen
        z = self.logits[predictor].astype(np.float64)
        p = np.exp(-np.logaddexp(0.0, -z))
        return Scored(seen.y, p, seen.w, seen.amount, seen.day, seen.card)


def columns_of(rows: Sequence[Judged], predictors: Sequence[str]) -> Columns:
    """Return rows that share their predictors as columns."""
    size = len(predictors)
    logits = np.full((len(rows), size), np.nan, np.float32)
    for place, row in enumerate(rows):
        if size and len(row.beliefs) == 4 * size:
            logits[place] = np.frombuffer(row.beliefs, "<f4")
    return Columns(
        scored_rows(
            [row.y for row in rows],
            [row.p for row in rows],
            [row.outcome == APPROVED for row in rows],
            [row.propensity for row in rows],
            [row.amount for row in rows],
            [row.event_ms // DAY_MS for row in rows],
            [row.card for row in rows],
        ),
        {name: logits[:, place] for place, name in enumerate(predictors)},
    )


def scored_rows(
    y: object, p: object, approved: object, propensity: object, amount: object, day: object,
    card: object,
) -> Scored:  # fmt: skip
    """Return columns (anything that numpy reads) as `Scored`, weighed by propensity."""
    w = importance_of(np.asarray(approved, np.bool_), np.asarray(propensity, np.float64))
    return Scored(
        np.asarray(y, np.uint8),
        np.asarray(p, np.float64),
        w,
        np.asarray(amount, np.float64),
        np.asarray(day, np.int64),
        np.asarray(card, np.int64),
    )


class JudgedWindow:
    """The newest `capacity` judged rows."""

    def __init__(self, capacity: int, predictors: Sequence[str]) -> None:
        """Make an empty window that knows these predictors; `total` counts all rows ever taken."""
        self._rows = np.zeros(
            capacity,
            [
                ("y", "u1"),
                ("p", "f8"),
                ("w", "f8"),
                ("amount", "f8"),
                ("day", "i8"),
                ("card", "i8"),
            ],
        )
        self._logits = {name: np.full(capacity, np.nan, np.float32) for name in predictors}
        self.total = 0

    def __len__(self) -> int:
        """Rows held."""
        return min(self.total, len(self._rows))

    def add(self, columns: Columns) -> None:
        """Take rows, in order; the oldest leave. Predictors that it does not know are left out."""
        capacity, seen = len(self._rows), columns.champion
        tail = slice(max(0, len(columns) - capacity), None)
        first = self.total + tail.start
        slots = np.arange(first, self.total + len(columns)) % capacity
        for name in self._rows.dtype.names or ():
            self._rows[name][slots] = getattr(seen, name)[tail]
        for name, logits in self._logits.items():
            logits[slots] = columns.logits[name][tail] if name in columns.logits else np.nan
        self.total += len(columns)

    def columns(self) -> Columns:
        """Return the rows, oldest first."""
        order = np.arange(self.total - len(self), self.total) % len(self._rows)
        rows = self._rows[order]
        champion = Scored(
            rows["y"], rows["p"], rows["w"], rows["amount"], rows["day"], rows["card"]
        )
        return Columns(champion, {name: z[order] for name, z in self._logits.items()})
