"""Rollouts and what is seen of them, as tests need them."""

from typing import Any

from models.rollout import Plan, Rollout, Step, Target
from models.rollout_counts import MODEL_MS_EDGES, SCORE_EDGES, ArmCounts

SHARES = (0.0, 0.01, 0.05, 0.25, 1.0)
BAKE_S = 60.0
DECISIONS_MIN = 100


def a_step(share: float, bake_s: float = BAKE_S, decisions_min: int = DECISIONS_MIN) -> Step:
    return Step(share=share, bake_s=bake_s, decisions_min=decisions_min)


def a_plan(shares: tuple[float, ...] = SHARES, **changes: Any) -> Plan:
    return Plan(steps=tuple(a_step(share) for share in shares), **changes)


def a_rollout(**changes: Any) -> Rollout:
    values: dict[str, Any] = {
        "number": 1,
        "candidate": Target(line="rival"),
        "plan": a_plan(),
        "started_ms": 0,
        "step_since_ms": 0,
        "by": "ann",
        "why": "a try",
    }
    return Rollout(**values | changes)


def counts(
    decisions: int = 1000,
    alerts: int = 0,
    fallbacks: int = 0,
    degraded: int = 0,
    score: int = 20,
    took: int = 4,
) -> ArmCounts:
    """Return counts whose scores and times lie all in one bin."""
    return ArmCounts(
        decisions=decisions,
        alerts=alerts,
        fallbacks=fallbacks,
        degraded=degraded,
        scores=_in_bin(score, decisions, len(SCORE_EDGES) + 1),
        model_ms=_in_bin(took, decisions, len(MODEL_MS_EDGES) + 1),
    )


def _in_bin(place: int, count: int, size: int) -> tuple[int, ...]:
    return tuple(count if index == place else 0 for index in range(size))
