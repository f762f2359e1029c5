"""Score, Policy, Vector → Decision, DecisionRecord: what was answered, and all that it rested on.

A `Decision` is the answer of `POST /v1/decisions`; a `DecisionRecord` is that answer on
`decisions.v1` with the event, the vector, the versions and the watermarks, so that anyone who has
the log can compute it again.
"""

from datetime import datetime
from typing import Literal

import msgspec

from features.event import Event

Outcome = Literal["approve", "review", "challenge", "decline"]
RiskLevel = Literal["normal", "elevated", "highest", "not_assessed"]
Degraded = Literal["features", "model", "idempotency"]


class Score(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the model believes.

    Attributes:
        value: Probability of fraud in [0, 1]; None when no model was asked.
        percentile: Share in [0, 1] of recent scores below it, by the quantiles of the weights.
    """

    value: float | None
    percentile: float | None
    risk_level: RiskLevel


class RecordedScore(Score, frozen=True, kw_only=True, gc=False):
    """A score with the exact log-odds (a float32, written so that it reads back equal)."""

    logit: float | None


class Reason(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One feature that moved the score, or a rule or a list that the event met.

    Attributes:
        code: Readable and stable: the feature's name and the side of usual on which it lies, or
            that it is missing, or a category; of a rule its code; of a list `deny_list` and so on.
        feature: Empty for a rule; for a list the entity that stands in it, as in `entities.card`.
        value: What was scored; None when the feature was missing.
        baseline: What is usual, in the feature's own unit.
        baseline_of: For whom: `entity`, this very one, by a longer window of its own; `population`,
            the mean that the model has seen.
        text: All of this in a sentence, without identifiers; of a rule or a list what its author
            says about it.
        contribution: Signed share of the log-odds (`models.scorer.Snapshot.explain_many`).
    """

    code: str
    source: Literal["model", "rule", "list"] = "model"
    feature: str = ""
    value: float | None = None
    baseline: float | None = None
    contribution: float | None = None
    baseline_of: Literal["entity", "population"] | None = None
    text: str | None = None


class RuleHit(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rule that the event met, or that failed on it.

    Attributes:
        state: `hit`: it had its say. `shadow`: it is only tried. `halted`: it hit too often, and
            waits for an operator. `error`: it has no value for this event. But for `hit`, none
            changes the outcome.
    """

    id: str
    version: int
    state: Literal["hit", "shadow", "halted", "error"]


class PolicyRef(msgspec.Struct, frozen=True, gc=False):
    """The policy that turned the score into an outcome."""

    version: int


class ModelRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The weights that answered.

    Attributes:
        age_ms: Decision time minus the time at which these weights were made.
        schema: Digest of the feature spec that they were learned with.
    """

    name: str
    version: int
    age_ms: int
    schema: str


class FeaturesRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How complete and how fresh the features were.

    Attributes:
        as_of: The oldest instant up to which a partition that was read was complete; None when
            none was read.
        staleness_ms: Decision time minus `as_of`; None likewise.
        missing: Names of the features without a value.
    """

    as_of: datetime | None
    staleness_ms: int | None
    missing: list[str]


class Timings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Milliseconds spent, as seen by the scorer; of the whole batch that the event rode in."""

    features: float
    model: float
    total: float


class RolloutRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The part that an event had in a rollout (docs/rollout.md).

    Attributes:
        number: Of the rollout.
        step: Index of its step.
        arm: Who answered: what answers otherwise, or the candidate. `fallback`: it was the
            candidate's event, who failed, and the stable arm answered.
        pass_ms: Time of the forward pass that scored the arm's part of the batch.
    """

    number: int
    step: int
    arm: Literal["stable", "candidate", "fallback"]
    pass_ms: float


class ShadowScore(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What another version would have said; nothing came of it.

    It is the candidate's, beside an answer of the stable arm; or, where the candidate answers all,
    that of the version that it is to replace.

    Attributes:
        state: `skipped`: time was short. `failed`: it could not.
        value: Probability of fraud; None unless scored. So is the rest.
        outcome: Of the bands of the policy, by this score alone.
        beside: The same by the score that the answer rests on.
        pass_ms: Time of the pass.
    """

    state: Literal["scored", "skipped", "failed"]
    model: str = ""
    version: int = 0
    sha256: str = ""
    value: float | None = None
    logit: float | None = None
    outcome: Outcome | None = None
    beside: Outcome | None = None
    pass_ms: float | None = None


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one event (design 4.7).

    Attributes:
        status: `duplicate` for a repeat, which gets the first answer; `dry_run` for what was only
            tried: nothing was recorded, nothing changed.
        shadow: What another version would have said.
        rollout: None of an event that takes part in none.
        propensity: Chance in (0, 1] with which the policy drew this outcome; 1 where it does not
            draw. A truth that comes back stands for 1 / propensity events like it.
        passed_through: The event was let through by chance, to learn what becomes of it.
        would_be: The outcome that it would have had; None unless it was passed through.
    """

    decision_id: str
    event_id: str
    status: Literal["new", "duplicate", "dry_run"] = "new"
    outcome: Outcome
    score: Score
    reasons: list[Reason]
    rules: list[RuleHit] = []
    policy: PolicyRef
    model: ModelRef | None
    shadow: list[ShadowScore] = []
    rollout: RolloutRef | None = None
    features: FeaturesRef
    degraded: list[Degraded]
    timings_ms: Timings
    propensity: float = 1.0
    passed_through: bool = False
    would_be: Outcome | None = None


class WeightsRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The exact bytes of the weights that answered: number, SHA-256 (hex) and model name."""

    version: int
    sha256: str
    model: str


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What one updates partition had applied when it was read: next offsets by source partition.

    Attributes:
        e: Of the events topic.
        l: Of the label updates topic.
    """

    e: list[int]
    l: list[int]  # noqa: E741 - the contract's letter


class ScoredBy(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where the forward pass ran; on an equal one it gives equal bits."""

    build: str
    device: str
    bucket: int


class Source(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The door that the event came through, and its place in the log if that was known then."""

    door: Literal["http", "stream"]
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None


class DecisionRecord(Decision, frozen=True, kw_only=True):
    """One record of `decisions.v1`, keyed by `decision_id`; of equal keys the first counts.

    Attributes:
        event: The whole event that was decided.
        vector: Base64 of the little-endian float32 that were scored, in the spec's order.
        weights: None when no model was asked; so is `scored_by`.
        applied: Updates partition (as text) → what it had applied. Empty when none was read.
        overlay: Identities of the scorer's own recent events that were applied on top.
        unplaced: Those of `overlay` that the log had not told the place of: they were applied
            whatever the states held. A state tells a repeat only among its newest events, so one
            that was much older than they may have been counted twice. Empty in older records.
        late_question: The event is older than the state's memory of the windows; the far edges
            of its windows may be cut.
        policy_digest: SHA-256 (hex) of the policy's text; empty in records older than it.
        decided_at_ms: Wall clock of the scorer.
    """

    tenant: str
    event: Event
    score: RecordedScore
    vector: str
    spec_digest: str
    weights: WeightsRef | None
    applied: dict[str, Applied]
    overlay: list[str]
    unplaced: list[str] = []
    late_question: bool = False
    policy_digest: str = ""
    scored_by: ScoredBy | None
    source: Source
    decided_at_ms: int
