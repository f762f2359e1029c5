"""decisions → their spans, and their records' headers; the same for both doors."""

import time
from collections.abc import Sequence

from features.trace import OpenSpan, Span, Tracer, context_of_version
from models.decision import DecisionRecord


def trace_decided(
    tracer: Tracer, begun: Sequence[OpenSpan | None], records: Sequence[DecisionRecord], door: str
) -> None:
    """Take the spans of decisions that are recorded.

    Each links the version of weights that answered: its trace tells what that was taught.

    Args:
        tracer: Takes them.
        begun: Of each decision; None: it is not traced.
        records: The decisions, in the same order.
        door: Where the events came in.
    """
    ended_ns = time.time_ns()
    for mine, record in zip(begun, records, strict=True):
        if mine is None:
            continue
        weights = record.weights
        facts: dict[str, str | int | float] = {
            "door": door,
            "event_id": record.event_id,
            "decision_id": record.decision_id,
            "policy_version": record.policy.version,
            "batch_events": len(records),
            "degraded_parts": len(record.degraded),
            "features_ms": record.timings_ms.features,
            "model_ms": record.timings_ms.model,
        }
        if weights is not None:
            facts["weights_version"] = weights.version
        tracer.take(
            Span(
                name="decision",
                context=mine.context,
                parent=mine.parent,
                began_ns=mine.began_ns,
                ended_ns=ended_ns,
                links=[context_of_version(weights.sha256)] if weights is not None else [],
                facts=facts,
            )
        )
