"""matured rows → what became of each arm of the newest rollout: JudgedReport.

Of a rollout's decisions only those count whose truth is known, judged when it matured, as
`pipeline/judge.py` does; so this comes late, and a short rollout is over before it.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from models.evaluation_ranking import ranking_of
from models.rollout_counts import JudgedCounts
from models.rollout_signals import JudgedReport
from pipeline.join import JoinRow
from pipeline.truth import importance_of

ROWS_MAX: Final = 20_000
"""Newest judged decisions of an arm."""
APPROVE: Final = "approve"
ARMS: Final = ("stable", "candidate")


class _Seen(NamedTuple):
    """A judged decision: whether a fraud, its probability, weight, and whether an alert."""

    y: int
    p: float
    w: float
    alert: bool


class ArmJudge:
    """Holds the newest judged decisions of both arms; bounded, and gone when its process ends."""

    def __init__(self) -> None:
        """Begin without a rollout."""
        self._number = 0
        self._arms: dict[str, deque[_Seen]] = {}
        self._changed = False

    def judge(self, rows: Sequence[JoinRow]) -> None:
        """Take rows of known outcome that were scored."""
        for row in rows:
            number, _, arm = row.arm.partition("/")
            if arm not in ARMS or row.net is None or row.p is None or int(number) < self._number:
                continue
            if int(number) > self._number:
                self._number = int(number)
                self._arms = {name: deque(maxlen=ROWS_MAX) for name in ARMS}
            alert = row.outcome != APPROVE or row.propensity < 1.0
            self._arms[arm].append(_Seen(int(row.net.fraud), row.p, importance_of(row), alert))
            self._changed = True

    def report(self) -> JudgedReport | None:
        """Return what is known by now; None if that was told before."""
        if not self._changed:
            return None
        self._changed = False
        stable, candidate = (_counts(self._arms[name]) for name in ARMS)
        return JudgedReport(number=self._number, stable=stable, candidate=candidate)


def _counts(seen: Sequence[_Seen]) -> JudgedCounts:
    if not seen:
        return JudgedCounts()
    y = np.array([one.y for one in seen], np.uint8)
    p = np.array([one.p for one in seen], np.float64)
    w = np.array([one.w for one in seen], np.float64)
    alert = np.array([one.alert for one in seen], np.bool_)
    precision = ranking_of(y, p, w).average_precision()
    return JudgedCounts(
        judged=float(w.sum()),
        frauds=float(w[y == 1].sum()),
        alerts=float(w[alert].sum()),
        caught=float(w[alert & (y == 1)].sum()),
        average_precision=precision if math.isfinite(precision) else None,
    )
