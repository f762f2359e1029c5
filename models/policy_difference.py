"""two policies → how they differ in what they mean, one line per thing: not how their texts do."""

from collections.abc import Iterator
from typing import Any

import msgspec

from models.policy_values import Policy, Rule


def differences(old: Policy, new: Policy) -> list[str]:
    """Return what changes from one policy to another; empty if they mean the same.

    Args:
        old: The policy that counts.
        new: The one that may take its place.
    """
    was, now = (msgspec.to_builtins(policy) for policy in (old, new))
    for content in (was, now):
        content.pop("rules")
    lines = list(_walk("", was, now))
    before, after = ({rule.id: rule for rule in policy.rules} for policy in (old, new))
    lines += [_told("+", rule) for name, rule in after.items() if name not in before]
    lines += [_told("-", rule) for name, rule in before.items() if name not in after]
    for name, rule in after.items():
        if name in before:
            lines += _changes_of(before[name], rule)
    return lines


def unnumbered(old: Policy, new: Policy) -> str:
    """Return the first rule whose meaning changes while its version does not grow; or nothing.

    Decisions name a rule by id and version, so one name must not mean two things.
    """
    before = {rule.id: rule for rule in old.rules}
    for rule in new.rules:
        was = before.get(rule.id)
        if was is None:
            continue
        if rule.version < was.version:
            return f"rule {rule.id} goes from version {was.version} back to {rule.version}"
        same = msgspec.structs.replace(rule, version=was.version, reason=was.reason)
        if rule.version == was.version and not _alike(was, same):
            return f"rule {rule.id} changes and is still version {rule.version}: raise its version"
    return ""


def _alike(was: Rule, now: Rule) -> bool:
    """Whether two rules mean the same when both are on: switching one on or off is no change."""
    plain = {"enabled": True, "snooze_until": None}
    return msgspec.structs.replace(was, **plain) == msgspec.structs.replace(now, **plain)


def _changes_of(was: Rule, now: Rule) -> Iterator[str]:
    yield from _walk(f"rules.{now.id}", msgspec.to_builtins(was), msgspec.to_builtins(now))


def _told(sign: str, rule: Rule) -> str:
    then = rule.outcome or "score_at_least"
    aside = " (shadow)" if rule.shadow else "" if rule.enabled else " (disabled)"
    return f"{sign} rules.{rule.id}: version {rule.version}: {then} when {_flat(rule.when)}{aside}"


def _walk(path: str, was: Any, now: Any) -> Iterator[str]:
    """Yield what differs below a path."""
    if was == now:
        return
    if isinstance(was, dict) and isinstance(now, dict):
        for key in [*was, *(key for key in now if key not in was)]:
            place = f"{path}.{key}".lstrip(".")
            if key not in now:
                yield f"- {place}: {_flat(was[key])}"
            elif key not in was:
                yield f"+ {place}: {_flat(now[key])}"
            else:
                yield from _walk(place, was[key], now[key])
    else:
        yield f"~ {path}: {_flat(was)} → {_flat(now)}"


def _flat(value: Any) -> str:
    """Return a value on one line."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return " ".join(text.split())
