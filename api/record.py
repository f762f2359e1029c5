"""what one batch rests on → one DecisionRecord per event: what is shared is made once."""

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

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
)
from models.policy_ruling import Rulebook
from models.policy_values import Ruling
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
        pass_ms: Time of the forward pass.
        arms: How a rollout divides the batch; None: one version answers all of it.
    """

    weights: Weights | None
    sha256: str
    scores: Scores | None
    rulings: list[Ruling]
    reasons: list[list[Reason]]
    pass_ms: float = 0.0
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
    book: Rulebook
    basis: Basis
    reads: Reads | None
    degraded: list[Degraded]
    build: str
    device: str
    now_ms: int
    features_ms: float
    model_ms: float
    total_ms: float


class Looked(NamedTuple):
    """What was seen of one event.

    Attributes:
        late_question: Whether the event is older than the states' memory.
        missing: Names of features without a value; equal ones are one list.
        applied: What the partitions of its entities had applied.
        oldest_ms: Up to when the log is in the least fresh of them; 0 if that is not known.
        overlay: Identities that were applied on top.
        unplaced: Those of them that the log may have had already.
    """

    late_question: bool
    missing: list[str]
    applied: dict[str, Applied]
    oldest_ms: int
    overlay: list[str]
    unplaced: list[str]


class _Part:
    """What the records share that rest on one version."""

    def __init__(self, facts: Facts, basis: Basis) -> None:
        weights, scores = basis.weights, basis.scores
        self.basis = basis
        self.model: ModelRef | None = None
        self.weights: WeightsRef | None = None
        self.scored_by: dict[int, ScoredBy] = {}
        self.rows: list[tuple[float, float, float, int]] = []
        if weights is None or scores is None:
            return
        self.model = ModelRef(
            name=weights.model,
            version=weights.version,
            age_ms=facts.now_ms - weights.created_at_ms,
            schema=weights.schema_digest,
        )
        self.weights = WeightsRef(version=weights.version, sha256=basis.sha256, model=weights.model)
        columns = (scores.p, scores.percentile, scores.logit, scores.bucket)
        self.rows = list(zip(*(column.tolist() for column in columns), strict=True))
        for bucket in {row[3] for row in self.rows}:
            self.scored_by[bucket] = ScoredBy(build=facts.build, device=facts.device, bucket=bucket)


class Recorder:
    """Makes the records of one batch; equal parts of them are one object, made once."""

    def __init__(self, facts: Facts) -> None:
        """Take what the batch shares."""
        self._facts = facts
        self._policy = PolicyRef(facts.book.policy.version)
        self._timings = Timings(
            features=facts.features_ms, model=facts.model_ms, total=facts.total_ms
        )
        self._parts: dict[int, _Part] = {}
        self._features: dict[tuple[int, int], FeaturesRef] = {}

    def record_of(
        self, index: int, event: Event, source: Source, vector: str, looked: Looked
    ) -> DecisionRecord:
        """Return the record of one event of the batch.

        Args:
            index: Of the event in the batch.
            event: What was decided.
            source: Where it came from.
            vector: What was scored, encoded.
            looked: What it rests on.
        """
        facts, arms = self._facts, self._facts.basis.arms
        basis, place = facts.basis.part_of(index)
        part = self._parts.get(id(basis))
        if part is None:
            part = self._parts[id(basis)] = _Part(facts, basis)
        ruling = basis.rulings[place]
        return DecisionRecord(
            decision_id=decision_id(identity_of(event)),
            event_id=event.event_id,
            outcome=ruling.outcome,
            propensity=ruling.propensity,
            passed_through=ruling.would_be is not None,
            would_be=ruling.would_be,
            score=self._score_of(part, place),
            reasons=[*ruling.reasons, *basis.reasons[place]],
            rules=list(ruling.rules),
            policy=self._policy,
            model=part.model,
            shadow=NO_SHADOW if arms is None else arms.shadows[index],
            rollout=None if arms is None else arms.refs[index],
            features=self._freshness_of(looked),
            degraded=facts.degraded,
            timings_ms=self._timings,
            tenant=event.tenant,
            event=event,
            vector=vector,
            spec_digest=facts.spec_digest,
            policy_digest=facts.book.digest,
            weights=part.weights,
            applied=looked.applied,
            overlay=looked.overlay,
            unplaced=looked.unplaced,
            late_question=looked.late_question,
            scored_by=part.scored_by[part.rows[place][3]] if part.rows else None,
            source=source,
            decided_at_ms=facts.now_ms,
        )

    def _score_of(self, part: _Part, place: int) -> RecordedScore:
        if not part.rows:
            return _NO_SCORE
        p, percentile, logit, _ = part.rows[place]
        facts = self._facts
        level: RiskLevel = (
            "not_assessed" if facts.reads is None else facts.book.policy.risk_level_of(percentile)
        )
        return RecordedScore(
            value=p,
            percentile=None if math.isnan(percentile) else percentile,
            risk_level=level,
            logit=logit,
        )

    def _freshness_of(self, looked: Looked) -> FeaturesRef:
        """Return how old the oldest partition is that this event's entities were read from."""
        oldest_ms, missing = looked.oldest_ms, looked.missing
        found = self._features.get((oldest_ms, id(missing)))
        if found is None:
            if oldest_ms <= 0:  # nothing read, or a partition that nobody has written yet
                found = FeaturesRef(as_of=None, staleness_ms=None, missing=missing)
            else:
                staleness_ms = max(0, self._facts.now_ms - oldest_ms)
                found = FeaturesRef(
                    as_of=from_ms(oldest_ms), staleness_ms=staleness_ms, missing=missing
                )
            self._features[oldest_ms, id(missing)] = found
        return found


_NO_SCORE = RecordedScore(value=None, percentile=None, risk_level="not_assessed", logit=None)
