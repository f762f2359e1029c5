"""feature spec, policy → Vocabulary: every name that may stand in a rule, its kind and its value.

Features stand under their own names, as in `card.count_over_1h`. Beside them: `event_type`,
`tenant`, `event_time`, `amount.value`, `amount.currency`, `amount.base`, `entities.NAME`,
`attributes.NAME`, `score.probability`, `score.percentile`; and `known.` before any of them, which
says whether there is a value.
"""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from features.event import AttributeValue, Event
from features.spec import Spec
from features.spec_values import AMOUNT_FIELD, EVENT_TYPE_FIELD
from features.vector import base_minor
from models.policy_values import AttributeKind

Kind: TypeAlias = Literal["number", "integer", "string", "bool", "timestamp"]

KNOWN = "known."
PROBABILITY = "score.probability"
PERCENTILE = "score.percentile"
PLACEHOLDERS: Mapping[Kind, Any] = {
    "number": math.nan,
    "integer": 0,
    "string": "",
    "bool": False,
    "timestamp": datetime(1970, 1, 1, tzinfo=UTC),
}
"""Stand for missing values where what comes of them is not looked at."""

_QUOTED = re.compile(
    r"""//[^\n]*"""
    r"""|(?<!\w)(?:[rR][bB]?|[bB][rR])(?:\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"[^"\n]*"|'[^'\n]*')"""
    r"""|\"{3}(?:\\[\s\S]|[^\\])*?\"{3}|'{3}(?:\\[\s\S]|[^\\])*?'{3}"""
    r"""|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'"""
)
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*")
_LITERALS = frozenset({"true", "false", "null", "in"})
_ATTRIBUTE_OF: Mapping[AttributeKind, Kind] = {
    "string": "string",
    "number": "number",
    "bool": "bool",
}
_NUMERIC_TESTS = frozenset({"at_least", "above", "at_most", "below"})


class Found(NamedTuple):
    """The names in an expression: those that the vocabulary has, and the first that it has not."""

    names: frozenset[str]
    unknown: str


def stripped(when: str) -> str:
    """Return an expression without what stands in quotes and comments, its length kept."""

    def blank(match: re.Match[str]) -> str:
        hidden = " " * (len(match.group()) - 2)
        return f"  {hidden}" if match.group().startswith("//") else f'"{hidden}"'

    return _QUOTED.sub(blank, when)


class Vocabulary:
    """What rules may speak of.

    Attributes:
        kinds: Name → kind.
        columns: Name of a feature → its place in the vector.
        getters: Name → what reads it from an event; None is missing.
    """

    def __init__(self, spec: Spec, attributes: Mapping[str, AttributeKind]) -> None:
        """Take the spec, and what the policy says of attributes."""
        self.columns = {name: i for i, name in enumerate(spec.feature_names)}
        self.getters: dict[str, Callable[[Event], Any]] = {
            "event_type": lambda event: event.event_type,
            "tenant": lambda event: event.tenant,
            "event_time": lambda event: event.event_time,
            "amount.value": lambda event: event.amount and event.amount.value,
            "amount.currency": lambda event: event.amount and event.amount.currency,
            "amount.base": lambda event: base_minor(spec, event),
        }
        kinds: dict[str, Kind] = {
            "event_type": "string",
            "tenant": "string",
            "event_time": "timestamp",
            "amount.value": "integer",
            "amount.currency": "string",
            "amount.base": "integer",
            PROBABILITY: "number",
            PERCENTILE: "number",
        }
        for part in sorted(_parts(spec)):
            kinds[f"entities.{part}"] = "string"
            self.getters[f"entities.{part}"] = _entity_getter(part)
        for name, of in {**_attributes_of(spec), **attributes}.items():
            kinds[f"attributes.{name}"] = _ATTRIBUTE_OF[of]
            self.getters[f"attributes.{name}"] = _attribute_getter(name, of)
        kinds |= dict.fromkeys(self.columns, "number")
        kinds |= {f"{KNOWN}{name}": "bool" for name in tuple(kinds)}
        self.kinds: Mapping[str, Kind] = kinds

    def names_in(self, when: str) -> Found:
        """Return the names that an expression reads."""
        names: set[str] = set()
        text = stripped(when)
        for match in _NAME.finditer(text):
            path = match.group()
            called = text[match.end() :].lstrip().startswith("(")
            if path in _LITERALS or (called and "." not in path):
                continue
            name = self._longest(path.rpartition(".")[0] if called else path)
            if name:
                names.add(name)
            else:
                return Found(frozenset(names), path)
        return Found(frozenset(names), "")

    def near(self, unknown: str) -> str:
        """Return a hint for a name that is none: the one that it resembles."""
        close = difflib.get_close_matches(unknown, self.kinds, 1)
        return f"; did you mean {close[0]}?" if close else ""

    def _longest(self, path: str) -> str:
        """Return the longest name that the path begins with; methods may stand behind it."""
        while path and path not in self.kinds:
            path = path.rpartition(".")[0]
        return path


def named_attribute(name: str) -> bool:
    """Whether an attribute's name can stand in an expression."""
    return bool(_ATTRIBUTE.fullmatch(name))


def _parts(spec: Spec) -> set[str]:
    return {part for entity in spec.entities for part in entity.key}


def _attributes_of(spec: Spec) -> dict[str, AttributeKind]:
    """Return the attributes that the spec names: numbers where it compares them as such."""
    taken = _parts(spec) | {AMOUNT_FIELD, EVENT_TYPE_FIELD}
    found: dict[str, AttributeKind] = {}
    for term in spec.event_terms:
        if term.kind == "category" and term.inputs[0] not in taken:
            found[term.inputs[0]] = "string"
    for entity in spec.entities:
        for field in entity.fields:
            if field.name not in taken:
                found[field.name] = "string" if field.kind == "hash" else "number"
    conditions: Sequence[Any] = [c for one in spec.filters for c in one.conditions]
    for condition in conditions:
        if condition.field not in taken and condition.test != "present":
            numeric = condition.test in _NUMERIC_TESTS
            found[condition.field] = "number" if numeric else "string"
    return {name: kind for name, kind in found.items() if named_attribute(name)}


def _entity_getter(part: str) -> Callable[[Event], str | None]:
    return lambda event: event.entities.get(part)


def _attribute_getter(name: str, kind: AttributeKind) -> Callable[[Event], AttributeValue]:
    """Return what reads an attribute; a value of another kind is missing."""

    def number(event: Event) -> float | None:
        value = event.attributes.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        try:
            return float(value)
        except OverflowError:
            return None

    def text(event: Event) -> str | None:
        value = event.attributes.get(name)
        return value if isinstance(value, str) else None

    def flag(event: Event) -> bool | None:
        value = event.attributes.get(name)
        return value if isinstance(value, bool) else None

    getters: Mapping[AttributeKind, Callable[[Event], AttributeValue]] = {
        "number": number,
        "string": text,
        "bool": flag,
    }
    return getters[kind]
