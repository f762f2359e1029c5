"""what one batch rests on → one DecisionRecord per event."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.event import Event, decision_id, from_ms, identity_of
from features.store import Reads
from models.decision import (
    Applied,
    DecisionRecord,
    Degraded,
    FeaturesRef,
    ModelRef,
    PolicyRef,
    Reason,
    RecordedScore,
    RiskLevel,
    RolloutRef,
    ScoredBy,
    ShadowScore,
    Source,
    Timings,
    WeightsRef,
    encode_vector,
)
from models.policy import Policy, Ruling
from models.scorer import Scores
from models.weights import Weights


@dataclass(frozen=True, slots=True)
class Basis:
    """What the model and the policy said of a batch; without weights, the policy alone.

    Attributes:
        weights: The one version that scored all of it.
        sha256: Of that version's signed bytes.
        scores: One row per event.
        rulings: One per event.
        reasons: One list per event.
    """

    weights: Weights | None
    sha256: str
    scores: Scores | None
    rulings: list[Ruling]
    reasons: list[list[Reason]]
    arms: "Arms | None" = None

    def part_of(self, index: int) -> "tuple[Basis, int]":
        """Return what an event's answer rests on, and the event's place in it."""
        return (self, index) if self.arms is None else self.arms.places[index]


@dataclass(frozen=True, slots=True)
class Arms:
    """How a rollout divides a batch.

    Attributes:
        places: Per event: the part that answers it, and its place in there.
        refs: Per event: its part in the rollout.
        shadows: Per event: what the candidate would have said.
    """

    places: list[tuple[Basis, int]]
    refs: list[RolloutRef | None]
    shadows: list[list[ShadowScore]]


NO_SHADOW: Final[list[ShadowScore]] = []


@dataclass(frozen=True, slots=True)
class Facts:
    """What all records of a batch share."""

    spec_digest: str
    policy: Policy
    basis: Basis
    reads: Reads | None
    degraded: list[Degraded]
    build: str
    device: str
    now_ms: int
    features_ms: float
    model_ms: float
    total_ms: float


def record_of(
    facts: Facts,
    index: int,
    event: Event,
    source: Source,
    x: NDArray[np.float32],
    late_question: bool,
    missing: list[str],
    applied: dict[str, Applied],
    overlay: list[str],
) -> DecisionRecord:
    """Return the record of one event of a batch.

    Args:
        facts: What the batch shares.
        index: Of the event in the batch.
        event: What was decided.
        source: Where it came from.
        x: What was scored, shape (n_features,).
        late_question: Whether the event is older than the states' memory.
        missing: Names of features without a value.
        applied: What the partitions of its entities had applied.
        overlay: Identities that were applied on top.
    """
    basis, place = facts.basis.part_of(index)
    arms = facts.basis.arms
    weights, scores, ruling = basis.weights, basis.scores, basis.rulings[place]
    model: ModelRef | None = None
    weights_ref: WeightsRef | None = None
    scored_by: ScoredBy | None = None
    if weights is not None and scores is not None:
        model = ModelRef(
            name=weights.model,
            version=weights.version,
            age_ms=facts.now_ms - weights.created_at_ms,
            schema=weights.schema_digest,
        )
        weights_ref = WeightsRef(version=weights.version, sha256=basis.sha256, model=weights.model)
        scored_by = ScoredBy(
            build=facts.build, device=facts.device, bucket=int(scores.bucket[place])
        )
    return DecisionRecord(
        decision_id=decision_id(identity_of(event)),
        event_id=event.event_id,
        outcome=ruling.outcome,
        propensity=ruling.propensity,
        passed_through=ruling.would_be is not None,
        would_be=ruling.would_be,
        score=_score(facts, scores, place),
        reasons=basis.reasons[place],
        policy=PolicyRef(facts.policy.version),
        model=model,
        shadow=NO_SHADOW if arms is None else arms.shadows[index],
        rollout=None if arms is None else arms.refs[index],
        features=_freshness(facts, applied, missing),
        degraded=facts.degraded,
        timings_ms=Timings(features=facts.features_ms, model=facts.model_ms, total=facts.total_ms),
        tenant=event.tenant,
        event=event,
        vector=encode_vector(x),
        spec_digest=facts.spec_digest,
        weights=weights_ref,
        applied=applied,
        overlay=overlay,
        late_question=late_question,
        scored_by=scored_by,
        source=source,
        decided_at_ms=facts.now_ms,
    )


def _score(facts: Facts, scores: Scores | None, index: int) -> RecordedScore:
    if scores is None:
        return RecordedScore(value=None, percentile=None, risk_level="not_assessed", logit=None)
    percentile = float(scores.percentile[index])
    level: RiskLevel = (
        "not_assessed" if facts.reads is None else facts.policy.risk_level_of(percentile)
    )
    return RecordedScore(
        value=float(scores.p[index]),
        percentile=None if math.isnan(percentile) else percentile,
        risk_level=level,
        logit=float(scores.logit[index]),
    )


def _freshness(facts: Facts, applied: dict[str, Applied], missing: list[str]) -> FeaturesRef:
    """Return how old the oldest partition is that this event's entities were read from."""
    oldest_ms = 0
    if facts.reads is not None and applied:
        oldest_ms = min(facts.reads.fresh_until_ms.get(int(name), 0) for name in applied)
    if oldest_ms <= 0:  # nothing read, or a partition that nobody has written yet
        return FeaturesRef(as_of=None, staleness_ms=None, missing=missing)
    return FeaturesRef(
        as_of=from_ms(oldest_ms),
        staleness_ms=max(0, facts.now_ms - oldest_ms),
        missing=missing,
    )
