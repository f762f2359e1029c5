"""(p, y) as they become known → the figures by which fraud models are judged.

Rows of equal score are one threshold: no figure depends on the order of ties, except card
precision, which ranks cards and breaks ties by the smaller card. NaN means that a figure does not
exist, as when there is no fraud.
"""

import numpy as np
from numpy.typing import NDArray

FLOAT = NDArray[np.float64]


def average_precision(y: NDArray[np.uint8], p: FLOAT) -> float:
    """Return the step-wise area under precision-recall: sum of precision times gain in recall."""
    alerts, frauds = _counts_by_threshold(y, p)
    if not frauds.size or frauds[-1] == 0:
        return float("nan")
    gains = np.diff(frauds, prepend=0) / frauds[-1]
    return float(np.sum(gains * frauds / alerts))


def roc_auc(y: NDArray[np.uint8], p: FLOAT) -> float:
    """Return the chance that a fraud scores above a legit event; ties count half."""
    alerts, frauds = _counts_by_threshold(y, p)
    if not frauds.size or frauds[-1] == 0 or frauds[-1] == alerts[-1]:
        return float("nan")
    legits = alerts - frauds
    hits = np.concatenate([[0], frauds]) / frauds[-1]
    misses = np.concatenate([[0], legits]) / legits[-1]
    return float(np.sum(np.diff(misses) * (hits[1:] + hits[:-1]) / 2))


def recall_at_fpr(y: NDArray[np.uint8], p: FLOAT, fpr: float) -> float:
    """Return the largest recall of a threshold whose false positive rate is at most `fpr`."""
    alerts, frauds = _counts_by_threshold(y, p)
    if not frauds.size or frauds[-1] == 0 or frauds[-1] == alerts[-1]:
        return float("nan")
    legits = alerts - frauds
    allowed = legits <= fpr * legits[-1]
    return float(np.max(np.where(allowed, frauds, 0)) / frauds[-1])


def brier(y: NDArray[np.uint8], p: FLOAT) -> float:
    """Return the mean squared distance of the probability from what happened."""
    return float(np.mean((p - y) ** 2)) if len(y) else float("nan")


def value_detection_rate(y: NDArray[np.uint8], p: FLOAT, amount: FLOAT, alert_rate: float) -> float:
    """Return the share of fraud money among the `alert_rate` highest scores (ties all in)."""
    money = float(np.sum(amount * y))
    if not money > 0:
        return float("nan")
    count = max(int(alert_rate * len(p)), 1)
    threshold = np.partition(p, len(p) - count)[len(p) - count]
    return float(np.sum(amount * y * (p >= threshold)) / money)


def card_precision_at_k(
    day: NDArray[np.int64],
    card: NDArray[np.int64],
    y: NDArray[np.uint8],
    p: FLOAT,
    k: int = 100,
) -> float:
    """Return the mean over days of the share of compromised cards among the k highest.

    A day's card has the highest score of its payments, and is compromised if any of them is a
    fraud. A card that was found compromised among the k is left out on later days. The divisor
    is k, also where fewer cards were seen.
    Source: Fraud Detection Handbook, chapter 4, `card_precision_top_k`.
    """
    found: set[int] = set()
    precisions = []
    for today in np.unique(day):
        rows = np.flatnonzero(day == today)
        cards, group = np.unique(card[rows], return_inverse=True)
        best = np.full(len(cards), -np.inf)
        np.maximum.at(best, group, p[rows])
        bad = np.zeros(len(cards), np.bool_)
        np.logical_or.at(bad, group, y[rows] == 1)
        left = ~np.isin(cards, np.fromiter(found, np.int64, len(found)))
        order = np.lexsort((cards, -best))
        top = order[left[order]][:k]
        caught = cards[top][bad[top]]
        precisions.append(len(caught) / k)
        found.update(caught.tolist())
    return float(np.mean(precisions)) if precisions else float("nan")


def _counts_by_threshold(
    y: NDArray[np.uint8], p: FLOAT
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return alerts and frauds among them at each distinct score, from the highest down."""
    if not len(y):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    order = np.argsort(-p, kind="stable")
    frauds = np.cumsum(y[order], dtype=np.int64)
    last = np.flatnonzero(np.diff(p[order], append=-np.inf))
    return last.astype(np.int64) + 1, frauds[last]
