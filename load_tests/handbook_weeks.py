"""The Handbook's log with recorded vectors, cut as its chapter 5 cuts it, and its figures by week.

A test week begins 14 days after its train block does: seven days to train on, seven until labels
are known. The blocks begin on 2018-07-25 and the three Wednesdays after it. On each test day the
cards are left out of which a fraud was known: in the block, or since then up to the day T-8.
Source: Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, chapter 3
("Train-test splitting", `get_train_test_set`) and chapter 5 (prequential validation).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.evaluation import average_precision, card_precision_at_k, roc_auc

WEEK = 7
BLOCK_AND_DELAY = 14
LAST_LABELS = 8
"""Scoring day T, labels are known of days up to T minus this."""
TEST_WEEKS = (129, 136, 143, 150)
"""First days, counted from 2018-04-01: 2018-08-08, 08-15, 08-22, 08-29."""
CHOICE_WEEKS = (101, 108, 115, 122)
"""The four weeks before: what was chosen was chosen on these."""
FIGURES = ("average precision", "AUC", "card precision@100")


@dataclass(frozen=True, eq=False)
class Log:
    """The log's rows by time, with the vectors that were made of them.

    Attributes:
        X: float32, shape (rows, features).
        y: 1 fraud, 0 legit.
        day: Days since the first.
        card: Customer.
        ids: Transaction, as an identity hash.
        at_ms: Event time.
        names: Of the features.
    """

    X: NDArray[np.float32]
    y: NDArray[np.uint8]
    day: NDArray[np.int64]
    card: NDArray[np.int64]
    ids: NDArray[np.uint64]
    at_ms: NDArray[np.int64]
    names: tuple[str, ...]

    def rows(self, first: int, last: int) -> slice:
        """Return the place of the days [first, last)."""
        start, stop = np.searchsorted(self.day, [first, last])
        return slice(int(start), int(stop))


def read_log(handbook: Path, vectors: Path) -> Log:
    """Join transactions with the vectors of `riskbeat backfill`, or recorded ones of its form.

    Raises:
        ValueError: A transaction has no vector.
    """
    table = pl.read_parquet(handbook).sort("TX_DATETIME", maintain_order=True)
    made = pl.read_parquet(vectors).unique("event_id", keep="first", maintain_order=True)
    names = tuple(name for name in made.columns if "." in name)
    table = table.with_columns(pl.col("TRANSACTION_ID").cast(pl.String).alias("event_id"))
    joined = table.join(made, on="event_id", how="left", maintain_order="left")
    without = int(joined["event_time"].is_null().sum())
    if without:
        raise ValueError(f"{vectors}: {without} transactions have no vector")
    X = np.empty((len(joined), len(names)), np.float32)
    for column, name in enumerate(names):
        X[:, column] = joined[name].to_numpy()
    return Log(
        X=X,
        y=joined["TX_FRAUD"].to_numpy().astype(np.uint8),
        day=joined["TX_TIME_DAYS"].to_numpy().astype(np.int64),
        card=joined["CUSTOMER_ID"].to_numpy().astype(np.int64),
        ids=joined["TRANSACTION_ID"].to_numpy().astype(np.uint64),
        at_ms=joined["TX_DATETIME"].dt.epoch("ms").to_numpy().astype(np.int64),
        names=names,
    )


def judged_rows(log: Log, week: int) -> NDArray[np.int64]:
    """Return the rows of a test week without the cards known to be compromised on each day."""

    def defrauded(first: int, last: int) -> set[int]:
        rows = log.rows(first, last)
        return set(log.card[rows][log.y[rows] == 1].tolist())

    known = defrauded(week - BLOCK_AND_DELAY, week - WEEK)
    found = []
    for day in range(week, week + WEEK):
        known |= defrauded(day - LAST_LABELS, day - LAST_LABELS + 1)
        place = log.rows(day, day + 1)
        rows = np.arange(place.start, place.stop)
        found.append(rows[~np.isin(log.card[rows], np.fromiter(known, np.int64, len(known)))])
    return np.concatenate(found)


def figures_of(log: Log, logit: NDArray[np.float32], week: int) -> tuple[float, float, float]:
    """Return `FIGURES` of a test week."""
    rows = judged_rows(log, week)
    y, score = log.y[rows], logit[rows].astype(np.float64)
    return (
        average_precision(y, score),
        roc_auc(y, score),
        card_precision_at_k(log.day[rows], log.card[rows], y, score),
    )
