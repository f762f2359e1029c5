"""What a policy file says, once checked: ladders, rules, limits. Values only."""

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal, NamedTuple, TypeAlias

import msgspec

from models.decision import Outcome, Reason, RiskLevel, RuleHit

BANDS_MAX = 16
REASONS_MAX = 10
STEPS_MAX = 256
PASS_SHARE_MAX = 0.5
RULES_MAX = 500
WHEN_MAX_CHARS = 2_000
ATTRIBUTES_MAX = 64
LIMIT_DECISIONS_MAX = 100_000
LIMIT_HITS_MAX = 100_000
REASON_MAX_CHARS = 200

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
RuleId = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}$(?!\n)")]
Names = Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=256)]
AttributeKind: TypeAlias = Literal["string", "number", "bool"]

SEVERITY: dict[Outcome, int] = {"approve": 0, "review": 1, "challenge": 2, "decline": 3}
"""How strict an outcome is: of several demands the strictest counts."""


class Band(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outcome and the bounds that a score must reach for it; all of those that are given."""

    outcome: Outcome
    probability: Share | None = None
    percentile: Share | None = None

    def reached(self, probability: float, percentile: float) -> bool:
        """Whether a score reaches every bound. An unknown percentile (NaN) reaches none."""
        if self.probability is not None and not probability >= self.probability:
            return False
        return self.percentile is None or percentile >= self.percentile


class Fallback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An outcome for amounts (minor units of the base currency) from a bound upwards."""

    outcome: Outcome
    amount_at_least: Annotated[int, msgspec.Meta(ge=0)] = 0


class Ladder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done with one event type; the first that applies wins, else approve."""

    bands: Annotated[tuple[Band, ...], msgspec.Meta(max_length=BANDS_MAX)]
    fallback: Annotated[tuple[Fallback, ...], msgspec.Meta(max_length=BANDS_MAX)] = ()


class RiskLevels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The percentile at which each level above `normal` begins."""

    elevated: Share
    highest: Share


class ReasonRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which decisions are explained, with how many reasons, integrated over how many points."""

    approved_too: bool = False
    at_most: Annotated[int, msgspec.Meta(ge=1, le=REASONS_MAX)] = 5
    steps: Annotated[int, msgspec.Meta(ge=1, le=STEPS_MAX)] = 32


class PassThrough(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A few events that a score would stop are let through: only so does their truth come back.

    Attributes:
        share: Of the events that would have one of the outcomes; the chance of each of them.
        outcomes: Those that are let through.
        amount_at_most: Larger amounts (minor units of the base currency) never are; None: no bound.
        seed: Enters the draw; keep it to yourselves where payers choose the names of events.
    """

    share: Annotated[float, msgspec.Meta(gt=0, le=PASS_SHARE_MAX)]
    outcomes: Annotated[tuple[Outcome, ...], msgspec.Meta(min_length=1)]
    amount_at_most: Annotated[int, msgspec.Meta(ge=0)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


class ScoreFloor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a rule makes of the score: the bands see at least this much of it."""

    probability: Share | None = None
    percentile: Share | None = None


class HitLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often a rule may hit in one scorer process before it is halted; each bound by itself.

    Attributes:
        share: Of the last `of_last` events that the rule looked at.
        per_minute: Hits in any 60 seconds.
    """

    share: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    of_last: Annotated[int, msgspec.Meta(ge=10, le=LIMIT_DECISIONS_MAX)] = 1_000
    per_minute: Annotated[int, msgspec.Meta(ge=1, le=LIMIT_HITS_MAX)] | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule: when it hits, and what follows.

    Attributes:
        id: Its name, for good; a rule that is changed keeps it and raises `version`.
        when: CEL, true or false, over the names that `policy_names` lists.
        outcome: Demanded of an event that it hits; `approve` sets the score's opinion aside.
        score_at_least: Instead of an outcome.
        code: Of the reason; the id where it is left out.
        reason: Text of the reason, for people.
        event_types: That it looks at; all where it is left out.
        tenants: That it looks at; all where it is left out.
        shadow: It is evaluated and recorded, and changes nothing.
        enabled: Off: it is not evaluated.
        snooze_until: Off until this instant.
        limit: Its own instead of the policy's `rule_limit`.
    """

    id: RuleId
    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    when: Annotated[str, msgspec.Meta(min_length=1, max_length=WHEN_MAX_CHARS)]
    outcome: Outcome | None = None
    score_at_least: ScoreFloor | None = None
    code: RuleId | None = None
    reason: Annotated[str, msgspec.Meta(max_length=REASON_MAX_CHARS)] = ""
    event_types: Names | None = None
    tenants: Names | None = None
    shadow: bool = False
    enabled: bool = True
    snooze_until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    limit: HitLimit | None = None

    @property
    def key(self) -> str:
        """Name of this version of the rule, under which it is halted."""
        return f"{self.id}@{self.version}"


class Ruling(NamedTuple):
    """What is done, and how it came to be.

    Attributes:
        outcome: What is done.
        propensity: Chance in (0, 1] with which this outcome was drawn; 1 where nothing is drawn.
        would_be: The outcome that it would have had, of an event that was let through; else None.
        rules: Those that hit or failed, in the policy's order.
        reasons: Of lists and rules, the strictest first.
    """

    outcome: Outcome
    propensity: float = 1.0
    would_be: Outcome | None = None
    rules: Sequence[RuleHit] = ()
    reasons: Sequence[Reason] = ()


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of the rules. A value; a change is a new version.

    Attributes:
        attributes: What kind of value an event's attribute has, where the feature spec does not
            say: only such attributes can stand in rules.
    """

    version: Annotated[int, msgspec.Meta(ge=1)]
    risk_levels: RiskLevels
    default: Ladder
    event_types: dict[str, Ladder] = {}
    reasons: ReasonRules = ReasonRules()
    pass_through: PassThrough | None = None
    attributes: Annotated[dict[str, AttributeKind], msgspec.Meta(max_length=ATTRIBUTES_MAX)] = {}
    rule_limit: HitLimit | None = None
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=RULES_MAX)] = ()

    def ruling_of(self, outcome: Outcome, name: str, base_minor: int | None) -> Ruling:
        """Let the event through by chance if the outcome is one of those that may be.

        The draw depends on the seed, the policy's version and the event's identity alone, so each
        door and each repeat rules alike.

        Args:
            outcome: By the score.
            name: Identity of the event.
            base_minor: Amount, as for `fallback_for`.
        """
        rule = self.pass_through
        if rule is None or outcome not in rule.outcomes:
            return Ruling(outcome)
        if rule.amount_at_most is not None and abs(base_minor or 0) > rule.amount_at_most:
            return Ruling(outcome)
        drawn = hashlib.blake2b(f"{rule.seed}/{self.version}/{name}".encode(), digest_size=8)
        if int.from_bytes(drawn.digest(), "little") < rule.share * 2.0**64:
            return Ruling("approve", rule.share, outcome)
        return Ruling(outcome, 1.0 - rule.share)

    def outcome_of(self, event_type: str, probability: float, percentile: float) -> Outcome:
        """Return the outcome of a score; `percentile` is NaN when unknown."""
        for band in self._ladder(event_type).bands:
            if band.reached(probability, percentile):
                return band.outcome
        return "approve"

    def fallback_for(self, event_type: str, base_minor: int | None) -> Outcome:
        """Return the outcome without a score.

        Args:
            event_type: Of the event.
            base_minor: Amount in minor units of the base currency (its size counts, not its
                sign); None for events without money, to which only bounds of 0 apply.
        """
        amount = abs(base_minor or 0)
        for fallback in self._ladder(event_type).fallback:
            if amount >= fallback.amount_at_least:
                return fallback.outcome
        return "approve"

    def risk_level_of(self, percentile: float) -> RiskLevel:
        """Return the level of a percentile; an unknown one (NaN) is `not_assessed`."""
        if math.isnan(percentile):
            return "not_assessed"
        if percentile >= self.risk_levels.highest:
            return "highest"
        return "elevated" if percentile >= self.risk_levels.elevated else "normal"

    def explains(self, outcome: Outcome) -> bool:
        """Whether a decision with this outcome carries reasons."""
        return outcome != "approve" or self.reasons.approved_too

    def limit_of(self, rule: Rule) -> HitLimit | None:
        """Return the limit that a rule stands under."""
        return rule.limit or self.rule_limit

    def _ladder(self, event_type: str) -> Ladder:
        return self.event_types.get(event_type, self.default)
