"""Score, amount → outcome: the versioned rules of `policy.yaml`."""

import hashlib
import math
import re
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import yaml

from models.decision import Outcome, RiskLevel

BANDS_MAX = 16
REASONS_MAX = 10
STEPS_MAX = 256
PASS_SHARE_MAX = 0.5

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_AT = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]+)`")


class PolicyError(ValueError):
    """`policy.yaml` is not a policy; names file, line and field."""


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


class Ruling(NamedTuple):
    """What is done, and how it came to be.

    Attributes:
        outcome: What is done.
        propensity: Chance in (0, 1] with which this outcome was drawn; 1 where nothing is drawn.
        would_be: The outcome that it would have had, of an event that was let through; else None.
    """

    outcome: Outcome
    propensity: float = 1.0
    would_be: Outcome | None = None


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version of the rules. A value; a change is a new version."""

    version: Annotated[int, msgspec.Meta(ge=1)]
    risk_levels: RiskLevels
    default: Ladder
    event_types: dict[str, Ladder] = {}
    reasons: ReasonRules = ReasonRules()
    pass_through: PassThrough | None = None

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

    def _ladder(self, event_type: str) -> Ladder:
        return self.event_types.get(event_type, self.default)


def load_policy(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        PolicyError: It is absent, no YAML, or not a policy; names file, line and field.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error
    return parse_policy(text, path.name)


def parse_policy(text: str, name: str) -> Policy:
    """Check a policy's text; `name` stands for the file in errors.

    Raises:
        PolicyError: The text is no YAML, or not a policy.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{name}:{line}: not YAML: {error.problem}") from error
    try:
        policy = msgspec.convert(content, Policy)
    except msgspec.ValidationError as error:
        raise _located(name, root, _spell_out(content, str(error))) from error
    _check_sense(name, root, policy)
    return policy


def _check_sense(name: str, root: Any, policy: Policy) -> None:
    """Refuse what has the right shape and cannot be meant."""
    levels = policy.risk_levels
    if levels.elevated > levels.highest:
        raise _located(name, root, "elevated begins above highest - at `$.risk_levels.elevated`")
    if policy.pass_through is not None:
        outcomes = policy.pass_through.outcomes
        for index, outcome in enumerate(outcomes):
            at = f" - at `$.pass_through.outcomes[{index}]`"
            if outcome == "approve":
                raise _located(name, root, f"an approved event is let through already{at}")
            if outcome in outcomes[:index]:
                raise _located(name, root, f"`{outcome}` is listed twice{at}")
    ladders = {".default": policy.default}
    ladders |= {f".event_types.{key}": ladder for key, ladder in policy.event_types.items()}
    for where, ladder in ladders.items():
        for index, band in enumerate(ladder.bands):
            if band.probability is None and band.percentile is None:
                text = "expected `probability`, `percentile` or both"
                raise _located(name, root, f"{text} - at `${where}.bands[{index}]`")


def _spell_out(content: Any, text: str) -> str:
    """Put the event type into msgspec's text, which writes `[...]` for a mapping's value."""
    if "`$.event_types[...]" not in text:
        return text
    for event_type, ladder in content["event_types"].items():
        try:
            msgspec.convert(ladder, Ladder)
        except msgspec.ValidationError as error:
            what, _, path = str(error).partition(" - at `$")
            return f"{what} - at `$.event_types.{event_type}{path or '`'}"
    return text


def _located(name: str, root: Any, text: str) -> PolicyError:
    """Turn msgspec's `… - at `$.a.b[2]`` into `file:line: a.b[2]: …`."""
    at = _AT.search(text)
    path = at.group(1) if at else ""
    steps: list[str] = [a or b for a, b in _PATH_STEP.findall(path)]
    unknown = _UNKNOWN.match(text)
    if unknown:
        steps.append(unknown.group(1))
    node = root
    line = 1
    for step in steps:
        key, node = _child(node, step)
        if key is None:
            break
        line = key.start_mark.line + 1
    field = path.lstrip(".") or "(top)"
    return PolicyError(f"{name}:{line}: {field}: {_AT.sub('', text)}")


def _child(node: Any, step: str) -> tuple[Any, Any]:
    """Return (the node that stands for the step's line, its value), or two Nones."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key, value
    if isinstance(node, yaml.SequenceNode) and step.isdigit() and int(step) < len(node.value):
        return node.value[int(step)], node.value[int(step)]
    return None, None
