"""matured rows → figures, members' weights, a log of judgements: was it right, what was believed?

The prediction that is judged is the one that was made when the event was decided, and it is judged
when the event matures, by what is known of it then: frauds that are found fast do not make the
figures look better than they are.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from models.ensemble import Ensemble
from models.evaluation import average_precision, brier, recall_at_fpr, roc_auc, value_detection_rate
from models.rehearsal import Ring
from pipeline.join import JoinRow
from pipeline.judged_columns import Judged
from pipeline.step_ports import Company
from pipeline.teach import Change, ids_of
from pipeline.truth import DELAYED, FEEDBACK, importance_of

JUDGED_MAX = 20_480
FPR = 0.005
ALERT_RATE = 0.005
_JUDGED = "judged"


class Judge:
    """Holds predictions against what is known of their events now."""

    def __init__(self, ensemble: Ensemble, company: Company) -> None:
        """Take the ports."""
        self._ensemble = ensemble
        self._guard = company.guard
        self._sink = company.sink
        self._arms = company.arms
        self._judged = Ring(_JUDGED, JUDGED_MAX, 2)

    @property
    def total(self) -> int:
        """Predictions judged so far; kept by the owner's checkpoint."""
        return self._judged.total

    def restore(self, parts: Mapping[str, bytes], total: int) -> None:
        """Take pages back."""
        self._judged.restore(parts, total)
        if self._sink is not None:
            self._sink.restore()

    def changed_pages(self) -> dict[str, bytes]:
        """Return the pages that changed since the last call."""
        return self._judged.changed_pages()

    def judge(self, rows: Sequence[JoinRow], clock_ms: int) -> None:
        """Judge rows that have just matured; those of unknown outcome have none."""
        known = [row for row in rows if row.net is not None and importance_of(row) > 0.0]
        self.weigh(known)
        scored = [row for row in known if row.p is not None]
        if not scored:
            return
        X = np.array([(row.p, row.amount) for row in scored], np.float32).reshape(-1, 2)
        y = np.array([_is_fraud(row) for row in scored], np.uint8)
        self._judged.append(X, y, ids_of(scored))
        if self._guard is not None:
            at_ms = np.array([row.event_ms for row in scored], np.int64)
            self._guard.observe_judged(DELAYED, y, X[:, 0].astype(np.float64), at_ms)
        if self._arms is not None:
            self._arms.judge(scored)
        if self._sink is not None:
            self._sink.add_many([_judged(row, clock_ms) for row in scored])

    def weigh(self, rows: Sequence[JoinRow]) -> None:
        """Let rows of known outcome weigh and calibrate members; again where a label turned."""
        size = 4 * len(self._ensemble.predictors)
        believed = [row for row in rows if row.net and row.beliefs and len(row.beliefs) == size]
        if not believed:
            return
        body = b"".join(row.beliefs or b"" for row in believed)
        self._ensemble.judge_many(
            np.frombuffer(body, "<f4").reshape(len(believed), -1),
            np.array([_is_fraud(row) for row in believed], np.uint8),
            np.array([importance_of(row) for row in believed], np.float32),
            ids_of(believed),
            np.array([row.event_ms for row in believed], np.int64),
        )

    def hear(self, learned: Sequence[JoinRow], feedback: Sequence[Change], clock_ms: int) -> None:
        """Tell the guard what became known: net labels by source, and feedback on scores."""
        if self._guard is None:
            return
        if learned:
            frauds = Counter(row.source for row in learned if _is_fraud(row))
            self._guard.observe_labels(Counter(row.source for row in learned), frauds, clock_ms)
        scored = [(row, fraud) for row, fraud in feedback if row.p is not None]
        if scored:
            self._guard.observe_judged(
                FEEDBACK,
                np.array([fraud for _, fraud in scored], np.uint8),
                np.array([row.p for row, _ in scored], np.float64),
                np.array([row.event_ms for row, _ in scored], np.int64),
            )

    def figures(self) -> dict[str, float]:
        """Return the progressive evaluation over the newest judged predictions."""
        size = self._judged.size
        if not size:
            return {}
        X, y, live = self._judged.take(np.arange(size))
        p, amount = X[:, 0].astype(np.float64), X[:, 1].astype(np.float64)
        assert live.all()
        figures = {
            "judged": float(size),
            "fraud_rate": float(y.mean()),
            "average_precision": average_precision(y, p),
            "roc_auc": roc_auc(y, p),
            "recall_at_half_percent_fpr": recall_at_fpr(y, p, FPR),
            "value_detection_at_half_percent": value_detection_rate(y, p, amount, ALERT_RATE),
            "brier": brier(y, p),
        }
        return {name: value for name, value in figures.items() if np.isfinite(value)}


def _is_fraud(row: JoinRow) -> bool:
    return row.net is not None and row.net.fraud


def _judged(row: JoinRow, clock_ms: int) -> Judged:
    assert row.p is not None
    return Judged(
        row.key,
        row.name,
        row.event_ms,
        clock_ms,
        int(_is_fraud(row)),
        row.p,
        row.amount,
        row.card,
        row.outcome,
        row.propensity,
        row.weights_version,
        row.source,
        row.beliefs or b"",
    )
