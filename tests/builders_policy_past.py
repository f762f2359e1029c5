"""Records of past decisions, for tests that rule on them again."""

from typing import Any

import numpy as np

from features.event import Amount
from features.spec import Spec
from models.decision import (
    DecisionRecord,
    FeaturesRef,
    Outcome,
    PolicyRef,
    RecordedScore,
    Source,
    Timings,
)
from models.decision_codec import encode_vector
from tests.builders_policy import NOW_MS, a_payment


def a_record(
    spec: Spec,
    event_id: str = "p1",
    *,
    value: int = 1000,
    p: float | None = 0.1,
    outcome: Outcome = "approve",
    **changes: Any,
) -> DecisionRecord:
    score = RecordedScore(value=p, percentile=None, risk_level="not_assessed", logit=None)
    values: dict[str, Any] = {
        "decision_id": f"dec_{event_id}",
        "event_id": event_id,
        "outcome": outcome,
        "score": score,
        "reasons": [],
        "policy": PolicyRef(3),
        "model": None,
        "features": FeaturesRef(as_of=None, staleness_ms=None, missing=[]),
        "degraded": [] if p is not None else ["model"],
        "timings_ms": Timings(features=0, model=0, total=0),
        "tenant": "default",
        "event": a_payment(event_id=event_id, amount=Amount(value, "EUR")),
        "vector": encode_vector(np.ones(spec.n_features, np.float32)),
        "spec_digest": spec.digest,
        "weights": None,
        "applied": {},
        "overlay": [],
        "scored_by": None,
        "source": Source(door="http"),
        "decided_at_ms": NOW_MS,
    }
    return DecisionRecord(**{**values, **changes})
