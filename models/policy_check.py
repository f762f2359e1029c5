"""rule, Vocabulary → the names that it reads, and whether it may say what it says."""

import re

from features.spec import Spec
from models.policy_expressions import RuleFault
from models.policy_names import Vocabulary, stripped
from models.policy_values import Rule

_LOOP = re.compile(r"\.\s*(all|exists|exists_one|map|filter)\s*\(")
_HAS = re.compile(r"(?<![\w.])has\s*\(")


def names_of(index: int, rule: Rule, spec: Spec, vocabulary: Vocabulary) -> frozenset[str]:
    """Return the names that a rule reads; refuse what it must not say.

    Args:
        index: The rule's place in the policy.
        rule: The rule.
        spec: Declares the event types.
        vocabulary: What rules may name.

    Raises:
        RuleFault: An unknown event type or name, a loop, or a macro that has another form here.
    """
    path = f"rules[{index}]"
    for event_type in rule.event_types or ():
        if event_type not in spec.event_rules.event_types:
            known = ", ".join(sorted(spec.event_rules.event_types))
            raise RuleFault(f"{path}.event_types", f"`{event_type}`: expected one of: {known}")
    text = stripped(rule.when)
    loop = _LOOP.search(text)
    if loop:
        raise RuleFault(f"{path}.when", f"`{loop.group(1)}` loops, and rules must not")
    if _HAS.search(text):
        raise RuleFault(f"{path}.when", "`has(…)`: write `known.NAME`, as in known.card.since_last")
    names, unknown = vocabulary.names_in(rule.when)
    if unknown.startswith("attributes."):
        raise RuleFault(
            f"{path}.when",
            f"unknown name {unknown}: declare it under `attributes` with its kind, as in "
            f"{unknown.split('.')[1]}: string",
        )
    if unknown:
        raise RuleFault(f"{path}.when", f"unknown name {unknown}{vocabulary.near(unknown)}")
    return names


def is_strict(when: str) -> bool:
    """Whether a rule that lacks a value cannot be true: only terms joined by `&&` at its top.

    Within a term everything that reads a missing value is undetermined, and so is their
    conjunction, or false.
    """
    text = stripped(when)
    depth = 0
    for at, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "?" or text.startswith("||", at) or (depth and text.startswith("&&", at)):
            return False
    return True
