"""Decisions and labels as the log holds them."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.event import Event, EventRules, EventType, Label, from_ms

DIGEST = "d" * 64
FEATURES = 6
START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
RULES = EventRules(
    event_types={"card_payment": EventType(primary="card")}, currencies=frozenset({"EUR"})
)


def a_decision(
    event_id: str,
    at: datetime = START,
    x: NDArray[np.float32] | None = None,
    p: float | None = 0.1,
    digest: str = DIGEST,
    amount: int = 1000,
    outcome: str = "approve",
    propensity: float = 1.0,
) -> bytes:
    """The fields of `models.decision.DecisionRecord` that the learner reads, and a few more."""
    vector = np.zeros(FEATURES, np.float32) if x is None else x
    record: dict[str, Any] = {
        "decision_id": "dec_0",
        "outcome": outcome,
        "propensity": float(propensity),
        "tenant": "default",
        "event": Event(
            event_type="card_payment",
            event_id=event_id,
            event_time=at,
            entities={"card": f"c{event_id}", "merchant": "m"},
        ),
        "score": {
            "value": None if p is None else float(p),
            "percentile": None,
            "risk_level": "normal",
            "logit": None,
        },
        "vector": base64.b64encode(vector.astype("<f4").tobytes()).decode(),
        "spec_digest": digest,
    }
    body: dict[str, Any] = msgspec.to_builtins(record)
    body["event"]["amount"] = {"value": amount, "currency": "EUR"}
    return msgspec.json.encode(body)


def a_label(
    event_id: str,
    label: str = "fraud",
    at: datetime = START,
    source: str = "chargeback",
    state: str = "confirmed",
) -> bytes:
    return msgspec.json.encode(
        msgspec.convert(
            {
                "event_type": "card_payment",
                "event_id": event_id,
                "label": label,
                "source": source,
                "state": state,
                "label_time": at.isoformat(),
            },
            Label,
        )
    )


def at_ms(milliseconds: int) -> datetime:
    return from_ms(milliseconds)
