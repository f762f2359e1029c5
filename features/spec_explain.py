"""Spec → what each feature is, in words: type, unit, window, and how exact it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from features.spec_entity import OF_AMOUNT, OF_LABELS
from features.spec_levels import Level
from features.spec_terms import AMOUNT
from features.spec_values import (
    NO_FILTER,
    Condition,
    EntitySpec,
    EventTerm,
    FeatureSpec,
    FilterSpec,
    SpecValues,
)
from features.spec_yaml import duration_text, span_text

FeatureType: TypeAlias = Literal["count", "amount", "number", "flag", "index"]

EXACT: Final = "exact to the millisecond"
_WAYS: Final = ("distance", "speed")
_FLAG: Final = "0 or 1"
_COUNTS: Final = ("count", "distinct", "label_count", "fraud_count")
_FLAGS: Final = ("is_new", "changed", "event.is_night", "event.is_weekend")


@dataclass(frozen=True, slots=True)
class FeatureInfo:
    """What a reader may want to know of one feature.

    Attributes:
        type: `count` and `amount` are whole numbers unless they are means or estimates; `flag` is
            0 or 1; `index` is the place of a category, for an embedding.
        unit: Of the values, as `cents of EUR`; `1` for a pure number.
        entity: Whose state it is read from; `event` for what is made from the event itself.
        aggregate: As in the file; for the event's own, the kind of term.
        window_ms: None without a window.
        filter: Name of the filter whose events alone count; none for all events.
        bound: How exact it is, in a sentence.
        text: What it means, in a sentence.
    """

    name: str
    type: FeatureType
    unit: str
    entity: str
    aggregate: str
    window_ms: int | None
    filter: str | None
    bound: str
    text: str


def describe_all(spec: SpecValues) -> dict[str, FeatureInfo]:
    """Return what every feature is, by name, in vector order."""
    found = {
        feature.name: _of_entity(spec, entity, feature)
        for entity in spec.entities
        for feature in entity.features
    }
    units = {name: info.unit for name, info in found.items()}
    units[AMOUNT] = _money(spec)
    for term in spec.event_terms:
        found[term.name] = _of_term(term, units)
    return found


def filter_text(one: FilterSpec, spec: SpecValues) -> str:
    """Return a filter's conditions in words."""
    return " and ".join(_condition_text(condition, spec) for condition in one.conditions)


def _of_entity(spec: SpecValues, entity: EntitySpec, feature: FeatureSpec) -> FeatureInfo:
    level = None if feature.level is None else entity.levels[feature.level]
    chosen = None if level is None or level.filter == NO_FILTER else spec.filters[level.filter]
    kind: FeatureType = "number"
    if feature.aggregate in _FLAGS:
        kind = "flag"
    elif feature.aggregate in _COUNTS:
        kind = "count"
    elif feature.aggregate in OF_AMOUNT:
        kind = "amount"
    text = _meaning(entity, feature)
    if level is not None:
        text += f" in (t - {duration_text(level.window_ms)}, t]"
    if chosen is not None:
        text += f", of those where {filter_text(chosen, spec)}"
    return FeatureInfo(
        name=feature.name,
        type=kind,
        unit=_unit(spec, feature),
        entity=entity.name,
        aggregate=feature.aggregate,
        window_ms=None if level is None else level.window_ms,
        filter=None if chosen is None else chosen.name,
        bound=_bound(spec, entity, feature, level),
        text=text,
    )


def _unit(spec: SpecValues, feature: FeatureSpec) -> str:
    if feature.aggregate in OF_AMOUNT:
        return _money(spec)
    return {
        "count": "events",
        "distinct": "values",
        "label_count": "labels",
        "fraud_count": "frauds",
        "since_last": "s",
        "is_new": _FLAG,
        "changed": _FLAG,
        "distance": "km",
        "speed": "km/h",
    }.get(feature.aggregate, "1")


def _money(spec: SpecValues) -> str:
    if not spec.base_digits:
        return spec.base_currency
    return f"{10**-spec.base_digits:.{spec.base_digits}f} {spec.base_currency}"


def _meaning(entity: EntitySpec, feature: FeatureSpec) -> str:
    """Return what is counted, without window and filter. t is the time of the question."""
    whose = " and ".join(entity.key)
    field = "" if feature.field is None else entity.fields[feature.field].name
    return {
        "count": f"number of events of the {whose}",
        "sum": f"sum of the amounts of the {whose}'s events",
        "mean": f"mean of the amounts of the {whose}'s events",
        "std": f"standard deviation (of the population) of the amounts of the {whose}'s events",
        "min": f"smallest amount of the {whose}'s events",
        "max": f"largest amount of the {whose}'s events",
        "first": f"amount of the {whose}'s oldest event",
        "last": f"amount of the {whose}'s newest event other than the one that asks",
        "ewma": f"mean of the amounts of the {whose}'s events, each weighing half as much as one"
        " that is an eighth of the window younger,",
        "distinct": f"number of different values of {field} in events of the {whose}",
        "label_count": f"number of labels, fraud or legit, that became known for the {whose}",
        "fraud_count": f"number of labels 'fraud' that became known for the {whose}",
        "fraud_rate": f"share of frauds among the labels that became known for the {whose}",
        "since_last": f"time since the {whose}'s newest event other than the one that asks",
        "is_new": f"1 if no other event of the {whose} is remembered, else 0",
        "changed": f"1 if {field} differs from that of the {whose}'s event before, else 0;"
        " missing where either has none",
        "distance": f"great-circle distance from the {whose}'s event before; missing where"
        " either has no place",
        "speed": f"distance from the {whose}'s event before, over the time between; missing where"
        " the times are equal or either has no place",
    }[feature.aggregate]


def _bound(spec: SpecValues, entity: EntitySpec, feature: FeatureSpec, level: Level | None) -> str:
    limits = spec.limits
    if level is None:
        longest = duration_text(entity.longest_window_ms)
        exact = "exact to 0.1 m of each place" if feature.aggregate in _WAYS else EXACT
        return (
            f"{exact} while the event before lies within {longest}, the longest window;"
            " an older one may be forgotten"
        )
    if feature.aggregate == "last" and level.filter == NO_FILTER:
        return EXACT
    of_labels = feature.aggregate in OF_LABELS
    rows = limits.label_head_events if of_labels else limits.head_events
    tile = span_text(level.tile_ms)
    text = (
        f"{EXACT} while the window's {'labels' if of_labels else 'events'} are"
        f" among the {entity.name}'s newest {rows}; beyond them the far edge lies up to {tile}"
        " (one tile) early"
    )
    if feature.aggregate == "distinct":
        text += " and the number is estimated (64 registers, standard error 13 %)"
    if feature.aggregate == "ewma":
        wrong = 2 ** (4 * level.tile_ms / level.window_ms)
        text += f" and a weight there is right within a factor of {wrong:.3f}"
    return text


def _of_term(term: EventTerm, units: Mapping[str, str]) -> FeatureInfo:
    kind: FeatureType = "number"
    unit = "1"
    bound = "exact"
    if term.kind == "amount":
        kind, unit, text = "amount", units[AMOUNT], "amount of the event, in the base currency"
        bound = "exact, rounded half to even"
    elif term.kind == "calendar":
        kind = "flag" if term.name in _FLAGS else "number"
        unit = _FLAG if kind == "flag" else "1"
        text = _CALENDAR[term.name]
    elif term.kind == "category":
        kind, unit = "index", f"0 to {term.size - 1}"
        text = (
            f"hash of {term.inputs[0]} as an index for an embedding; 0 where it is absent,"
            f" else 1 + hash mod {term.size - 1}"
        )
        bound = "exact; two values may share an index"
    else:
        bound = "as exact as what it is made from"
        if term.kind == "ratio":
            of, to = term.inputs
            unit = "1" if units[of] == units[to] else f"{units[of]} / {units[to]}"
            text = f"{of} divided by {to}; missing where either is, or the second is 0"
        else:
            unit = "standard deviations"
            value, mean, std = term.inputs
            text = f"({value} - {mean}) / {std}; missing where any is, or the last is 0"
    return FeatureInfo(term.name, kind, unit, "event", term.kind, None, None, bound, text)


_CALENDAR: Final = {
    "event.hour_sin": "time of day (UTC) on a circle of 24 hours: its sine",
    "event.hour_cos": "time of day (UTC) on a circle of 24 hours: its cosine",
    "event.weekday_sin": "day of the week (UTC) on a circle of 7: its sine",
    "event.weekday_cos": "day of the week (UTC) on a circle of 7: its cosine",
    "event.is_night": "1 from 0:00 to 6:00 UTC, else 0",
    "event.is_weekend": "1 on Saturday and Sunday (UTC), else 0",
}


def _condition_text(condition: Condition, spec: SpecValues) -> str:
    field = condition.field
    if condition.test == "present":
        return f"{field} is {'present' if condition.values == ('true',) else 'absent'}"
    if condition.test == "is":
        return f"{field} is {' or '.join(condition.values)}"
    if condition.test == "not":
        return f"{field} is present and not {' or '.join(condition.values)}"
    word = condition.test.replace("_", " ")
    if field != "amount":
        return f"{field} is {word} {condition.bound:g}"
    whole = f"{condition.bound / 10**spec.base_digits:.{spec.base_digits}f}"
    return f"amount is {word} {whole} {spec.base_currency}"
