"""(y, p, w, amount) → Ranking: what each threshold would have caught, and figures read off it.

Rows of equal score are one threshold: no figure depends on the order of ties. NaN means that a
figure does not exist, as when there is no fraud. A row's weight says how many events it stands
for: with 1 / propensity (Horvitz and Thompson, 1952) for events that were let through by chance,
sums over rows estimate, without bias, the sums over all events.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOAT = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Sums over the rows that score at least so much, at each distinct score, highest first.

    Attributes:
        score: The distinct scores, float64, shape (t,), falling.
        alerts: Weight of rows at or above it.
        frauds: Weight of frauds among them.
        money: Weighted amount of these frauds.
        rows: Rows with weight, before equal scores were put together.
    """

    score: FLOAT
    alerts: FLOAT
    frauds: FLOAT
    money: FLOAT
    rows: int

    @property
    def total(self) -> float:
        """Weight of all rows."""
        return float(self.alerts[-1]) if self.alerts.size else 0.0

    @property
    def fraud_total(self) -> float:
        """Weight of all frauds."""
        return float(self.frauds[-1]) if self.frauds.size else 0.0

    @property
    def legit_total(self) -> float:
        """Weight of all that is no fraud."""
        return self.total - self.fraud_total

    @property
    def precision(self) -> FLOAT:
        """Share of frauds among the alerts, at each score."""
        return self.frauds / self.alerts

    @property
    def recall(self) -> FLOAT:
        """Share of all frauds that are alerted, at each score; NaN without a fraud."""
        return self.frauds / (self.fraud_total or NAN)

    def average_precision(self) -> float:
        """Return the step-wise area under precision-recall: precision times gain in recall."""
        if not self.fraud_total:
            return NAN
        gains = np.diff(self.frauds, prepend=0) / self.fraud_total
        return float(np.sum(gains * self.precision))

    def roc_auc(self) -> float:
        """Return the chance that a fraud scores above a legit event; ties count half."""
        if not self.fraud_total or not self.legit_total > 0:
            return NAN
        hits = np.concatenate([[0], self.frauds]) / self.fraud_total
        misses = np.concatenate([[0], self.alerts - self.frauds]) / self.legit_total
        return float(np.sum(np.diff(misses) * (hits[1:] + hits[:-1]) / 2))

    def recall_at_fpr(self, fpr: float) -> float:
        """Return the largest recall of a threshold whose false positive rate is at most `fpr`."""
        if not self.fraud_total or not self.legit_total > 0:
            return NAN
        allowed = self.alerts - self.frauds <= fpr * self.legit_total
        return float(np.max(np.where(allowed, self.frauds, 0)) / self.fraud_total)

    def place_of_share(self, share: float) -> int:
        """Return the place of the score that alerts the `share` highest: ties all in, one at least.

        Raises:
            IndexError: There are no rows.
        """
        if not self.alerts.size:
            raise IndexError("no rows are ranked")
        wanted = max(int(share * self.total), 1)
        return min(int(np.searchsorted(self.alerts, wanted)), len(self.alerts) - 1)

    def recall_at_alerted(self, share: float) -> float:
        """Return the share of frauds among the `share` highest scores."""
        if not self.fraud_total:
            return NAN
        return float(self.frauds[self.place_of_share(share)]) / self.fraud_total

    def value_detection_rate(self, share: float) -> float:
        """Return the share of fraud money among the `share` highest scores."""
        if not self.money.size or not self.money[-1] > 0:
            return NAN
        return float(self.money[self.place_of_share(share)] / self.money[-1])

    def false_positives_per_fraud(self, share: float) -> float:
        """Return legit alerts for each fraud among the `share` highest scores; NaN if none is."""
        if not self.fraud_total:
            return NAN
        place = self.place_of_share(share)
        caught = float(self.frauds[place])
        return (float(self.alerts[place]) - caught) / caught if caught else NAN


def ranking_of(
    y: NDArray[np.uint8], p: FLOAT, w: FLOAT | None = None, amount: FLOAT | None = None
) -> Ranking:
    """Rank rows by score.

    Args:
        y: 1 fraud, 0 legit, shape (m,).
        p: Scores; only their order matters.
        w: How many events a row stands for; rows of weight 0 do not count. None: each for one.
        amount: Money of the rows; None: no money.
    """
    wide = np.ones(len(y)) if w is None else np.asarray(w, np.float64)
    money = np.zeros(len(y)) if amount is None else np.asarray(amount, np.float64)
    chosen = np.flatnonzero(wide > 0)
    order = chosen[np.argsort(-p[chosen], kind="stable")]
    if not order.size:
        none = np.zeros(0)
        return Ranking(none, none, none, none, 0)
    last = np.flatnonzero(np.diff(p[order], append=-np.inf))
    fraud = wide[order] * y[order]
    return Ranking(
        score=np.asarray(p[order][last], np.float64),
        alerts=np.cumsum(wide[order])[last],
        frauds=np.cumsum(fraud)[last],
        money=np.cumsum(fraud * money[order])[last],
        rows=len(order),
    )


def importance_of(approved: NDArray[np.bool_], propensity: FLOAT) -> FLOAT:
    """Return how many events each judged row stands for.

    An event that was let through by chance stands for 1 / propensity of its like; those that were
    not, although they might have been, for none, since the others stand for them. What was stopped
    without a draw stands for itself, if its truth is known at all.

    Args:
        approved: Whether the event was let through, shape (m,).
        propensity: Chance of what was done, in (0, 1].
    """
    return np.where(approved, 1.0 / propensity, np.where(propensity < 1, 0.0, 1.0))
