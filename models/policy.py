"""policy.yaml → Policy: its text read and checked; an error names file, line and field.

What a rule says is checked against the feature spec by `models.policy_rules`, in the same words.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from models.policy_values import (
    AttributeKind,
    Band,
    Fallback,
    HitLimit,
    Ladder,
    PassThrough,
    Policy,
    ReasonRules,
    RiskLevels,
    Rule,
    Ruling,
    ScoreFloor,
)

__all__ = [
    "Band",
    "Fallback",
    "HitLimit",
    "Ladder",
    "PassThrough",
    "Policy",
    "PolicyError",
    "ReasonRules",
    "RiskLevels",
    "Rule",
    "Ruling",
    "ScoreFloor",
    "digest_of",
    "error_at",
    "load_policy",
    "parse_policy",
]

POLICY_MAX_BYTES = 1024 * 1024

_PATH_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_AT = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `([^`]+)`")


class PolicyError(ValueError):
    """`policy.yaml` is not a policy; names file, line and field."""


def load_policy(path: Path) -> Policy:
    """Read and check a policy file.

    Raises:
        PolicyError: It is absent, no YAML, or not a policy; names file, line and field.
    """
    return parse_policy(read_text(path), path.name)


def read_text(path: Path) -> str:
    """Return a policy file's text.

    Raises:
        PolicyError: It is absent, too large or no text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error
    if len(data) > POLICY_MAX_BYTES:
        raise PolicyError(f"{path}: {len(data)} bytes; at most {POLICY_MAX_BYTES} are taken")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8 at byte {error.start}") from error


def digest_of(text: str) -> str:
    """Return the SHA-256 (hex) of a policy's text: its name whatever its number."""
    return hashlib.sha256(text.encode()).hexdigest()


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
    except yaml.YAMLError as error:  # a character that YAML does not know
        raise PolicyError(f"{name}:1: not YAML: {str(error).splitlines()[0]}") from error
    try:
        policy = msgspec.convert(content, Policy)
    except msgspec.ValidationError as error:
        raise _located(name, root, _spell_out(content, str(error))) from error
    for path, fault in _senseless(policy):
        raise _located(name, root, f"{fault} - at `$.{path}`")
    return policy


def error_at(name: str, text: str, path: str, fault: str) -> PolicyError:
    """Return (not raise) an error that names the place of a field, as in `rules[3].when`."""
    return _located(name, yaml.compose(text, Loader=yaml.SafeLoader), f"{fault} - at `$.{path}`")


def _senseless(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield (path, fault) of what has the right shape and cannot be meant."""
    if policy.risk_levels.elevated > policy.risk_levels.highest:
        yield "risk_levels.elevated", "elevated begins above highest"
    if policy.pass_through is not None:
        outcomes = policy.pass_through.outcomes
        for index, outcome in enumerate(outcomes):
            path = f"pass_through.outcomes[{index}]"
            if outcome == "approve":
                yield path, "an approved event is let through already"
            if outcome in outcomes[:index]:
                yield path, f"`{outcome}` is listed twice"
    ladders = {"default": policy.default}
    ladders |= {f"event_types.{key}": ladder for key, ladder in policy.event_types.items()}
    for where, ladder in ladders.items():
        for index, band in enumerate(ladder.bands):
            if band.probability is None and band.percentile is None:
                yield f"{where}.bands[{index}]", "expected `probability`, `percentile` or both"
    yield from _senseless_limit("rule_limit", policy.rule_limit)
    seen: set[str] = set()
    for index, rule in enumerate(policy.rules):
        path = f"rules[{index}]"
        if rule.id in seen:
            yield f"{path}.id", f"`{rule.id}` stands here twice"
        seen.add(rule.id)
        if (rule.outcome is None) == (rule.score_at_least is None):
            yield path, "expected `outcome` or `score_at_least`, one of them"
        if rule.score_at_least == ScoreFloor():
            yield f"{path}.score_at_least", "expected `probability`, `percentile` or both"
        yield from _senseless_limit(f"{path}.limit", rule.limit)


def _senseless_limit(path: str, limit: HitLimit | None) -> Iterator[tuple[str, str]]:
    if limit is not None and limit.share is None and limit.per_minute is None:
        yield path, "expected `share`, `per_minute` or both"


def _spell_out(content: Any, text: str) -> str:
    """Put the key into msgspec's text, which writes `[...]` for a mapping's value."""
    kinds: dict[str, Any] = {"event_types": Ladder, "attributes": AttributeKind}
    for field, kind in kinds.items():
        if f"`$.{field}[...]" not in text:
            continue
        for key, value in content[field].items():
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError as error:
                what, _, path = str(error).partition(" - at `$")
                return f"{what} - at `$.{field}.{key}{path or '`'}"
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
