"""Scores → what part of an AUC is chance: frauds of the Handbook that nothing tells apart yet.

In the simulator's second scenario every payment at a compromised terminal is a fraud, and an
ordinary payment otherwise. Until the first of them is known, nobody can tell. The scenario is a
label; here it says what a figure is made of, and no learner sees it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from load_tests.handbook_weeks import Log, judged_rows
from load_tests.report import Row
from models.evaluation import roc_auc

TERMINAL_SCENARIO = 2
KNOWN = "merchant.fraud_count_over_30d"


def unseen_rows(handbook: Path, log: Log) -> NDArray[np.bool_]:
    """Return which rows are frauds at a terminal of which no fraud of 30 days is known."""
    columns = ["TX_DATETIME", "TX_FRAUD_SCENARIO"]
    table = pl.read_parquet(handbook, columns=columns).sort("TX_DATETIME", maintain_order=True)
    known = np.nan_to_num(log.X[:, log.names.index(KNOWN)])
    at_terminals = np.asarray(table["TX_FRAUD_SCENARIO"] == TERMINAL_SCENARIO, np.bool_)
    return at_terminals & np.asarray(known == 0, np.bool_)


def auc_apart(
    log: Log, logit: NDArray[np.float32], unseen: NDArray[np.bool_], week: int
) -> tuple[float, float, float]:
    """Return the AUC of frauds that show, that of those that do not, and the share of these."""
    rows = judged_rows(log, week)
    y, hidden, score = log.y[rows], unseen[rows], logit[rows].astype(np.float64)
    shown = roc_auc(y[~hidden], score[~hidden])
    legit_or_hidden = hidden | (y == 0)
    chance = roc_auc(y[legit_or_hidden], score[legit_or_hidden])
    return shown, chance, float(hidden.sum() / y.sum())


def unseen_report(
    log: Log,
    who: str,
    logits: Sequence[NDArray[np.float32]],
    unseen: NDArray[np.bool_],
    weeks: Sequence[int],
) -> list[Row]:
    """Return rows of one model's scores, a mean over seeds and weeks."""
    found = np.array([[auc_apart(log, one, unseen, week) for week in weeks] for one in logits])
    shown, chance, share = found.mean(axis=0).T
    spread = chance.std(ddof=1) if len(weeks) > 1 else 0.0
    by_week = ", ".join(f"{value:.3f}" for value in chance)
    note = f"by week {by_week}; sd {spread:.3f}; {share.mean():.1%} of the frauds"
    return [
        Row(f"{who}: AUC of frauds that show", float(shown.mean()), "AUC"),
        Row(f"{who}: AUC of frauds without a sign", float(chance.mean()), "AUC", note=note),
    ]
