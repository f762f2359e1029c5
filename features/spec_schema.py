"""grammar of features.yaml → JSON Schema: for editors, and for checks in other languages.

It says all that does not depend on another part of the file; `Spec.load` says the rest.
"""

from typing import Any, Final

from features.spec_entity import (
    ENTITIES_MAX,
    FLAGS,
    KEY_PARTS_MAX,
    OF_EVENTS,
    OF_LABELS,
    WINDOWS_MAX,
)
from features.spec_filters import LOWER, UPPER, VALUES_MAX
from features.spec_levels import FILTERS_MAX
from features.spec_read import OPTIONAL, REQUIRED
from features.spec_terms import CALENDAR, CATEGORIES_MAX, CATEGORY_SIZE_MAX

Json = dict[str, Any]

_NAME: Final = "^[a-z][a-z0-9_]{0,63}$"
_TEXT: Final = {"type": ["string", "number", "boolean"]}
_NUMBER: Final = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": "^[-+]?[0-9.]+$"}]}
_WORDS: Final = {
    "count": "Number of events.",
    "sum": "Sum of their amounts, in minor units of the base currency.",
    "mean": "Mean of their amounts.",
    "std": "Standard deviation of their amounts, of the population.",
    "min": "Smallest amount.",
    "max": "Largest amount.",
    "first": "Amount of the oldest event in the window.",
    "last": "Amount of the newest event other than the one that asks.",
    "ewma": "Mean of the amounts, each weighing 2^(-8 age / window).",
    "label_count": "Number of labels that became known.",
    "fraud_count": "Number of labels 'fraud' that became known.",
    "fraud_rate": "fraud_count / label_count.",
    "since_last": "Seconds since the newest event other than the one that asks.",
    "is_new": "1 if no other event is remembered, within the longest window.",
    "distance": "Kilometres from the event before, and km/h; needs `place`.",
}


def features_schema() -> Json:
    """Return the JSON Schema (2020-12) of features.yaml."""
    properties: Json = {
        "money": _money(),
        "event_types": _named(_event_type(), "What happens: payments, refunds, log-ins.", least=1),
        "limits": _limits(),
        "filters": _named(
            _named(_ref("condition"), "Conditions that must all hold.", least=1),
            "Named conditions, for `where`.",
            least=1,
            most=FILTERS_MAX,
        ),
        "place": _object(
            {"latitude": _name(), "longitude": _name()},
            "Attributes that hold where an event was, in degrees.",
            required=("latitude", "longitude"),
        ),
        "entities": _named(
            _ref("entity"), "What payments have in common.", least=1, most=ENTITIES_MAX
        ),
        "calendar": {
            "type": "array",
            "items": {"enum": list(CALENDAR)},
            "uniqueItems": True,
            "description": "Features of the event's time, in UTC.",
        },
        "ratios": {
            "type": "array",
            "items": {"type": "string", "pattern": r"^\S+ / \S+$"},
            "description": "One feature divided by another: `a / b`.",
        },
        "deviations": _named(
            _ref("windows"), "(amount - mean) / std, which the entity must both have."
        ),
        "categories": _named(
            {"type": "integer", "minimum": 2, "maximum": CATEGORY_SIZE_MAX},
            "Field → how many indices its values are hashed to, 0 for absent among them.",
            least=1,
            most=CATEGORIES_MAX,
        ),
    }
    assert set(properties) == {*REQUIRED, *OPTIONAL}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "features.yaml",
        "$defs": {
            "windows": _windows(),
            "condition": _condition(),
            "entity": _entity(),
        },
        **_object(properties, "What riskbeat knows about a payment.", required=REQUIRED),
    }


def _entity() -> Json:
    windows = {
        name: {"$ref": "#/$defs/windows", "description": _WORDS[name]}
        for name in (*OF_EVENTS, *OF_LABELS)
    }
    distinct = _named(_ref("windows"), "Number of different values of a field.", least=1)
    chosen = {name: windows[name] for name in OF_EVENTS} | {"distinct": distinct}
    key = {
        "type": "array",
        "items": _name(),
        "minItems": 2,
        "maxItems": KEY_PARTS_MAX,
        "uniqueItems": True,
        "description": "Entities that identify this one together.",
    }
    changed = {
        "type": "array",
        "items": _name(),
        "uniqueItems": True,
        "description": "1 if a field differs from the event before.",
    }
    flags = {name: {"type": "boolean", "description": _WORDS[name]} for name in FLAGS}
    where = _named(
        _object(chosen, "Aggregates of those events alone."), "Filter → aggregates.", least=1
    )
    return _object(
        {"key": key, **windows, "distinct": distinct, **flags, "changed": changed, "where": where},
        "Aggregates over windows, and what needs none.",
    )


def _windows() -> Json:
    return {
        "type": "array",
        "items": {"type": "string", "pattern": "^[1-9][0-9]{0,5}(ms|s|m|h|d)$"},
        "minItems": 1,
        "maxItems": WINDOWS_MAX,
        "uniqueItems": True,
    }


def _condition() -> Json:
    values = {
        "anyOf": [
            _TEXT,
            {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": VALUES_MAX},
        ]
    }
    tests: Json = {name: _NUMBER for name in LOWER + UPPER}
    tests |= {"not": values, "present": {"type": "boolean"}}
    apart = [{"not": {"required": list(pair)}} for pair in (LOWER, UPPER)]
    return {"anyOf": [*values["anyOf"], _object(tests, "") | {"minProperties": 1, "allOf": apart}]}


def _money() -> Json:
    rate = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string"}]}
    row = _object(
        {"rate": rate, "minor_digits": {"type": "integer", "minimum": 0, "maximum": 4}},
        "A rate, and how many digits the currency's minor unit has.",
        required=("rate",),
    )
    code = "^[A-Z]{3}$"
    return _object(
        {
            "base": {"type": "string", "pattern": code},
            "rates_version": {"type": ["string", "number"]},
            "rates": {
                "type": "object",
                "propertyNames": {"pattern": code},
                "additionalProperties": {"anyOf": [*rate["anyOf"], row]},
                "minProperties": 1,
            },
        },
        "What one unit of each currency is worth, in units of the base.",
        required=("base", "rates_version", "rates"),
    )


def _event_type() -> Json:
    return _object(
        {"primary": _name(), "amount_required": {"type": "boolean"}},
        "The entity by which events are kept in order, and whether money is part of them.",
        required=("primary",),
    )


def _limits() -> Json:
    duration = _windows()["items"]
    count = {"type": "integer", "maximum": 4096}
    return _object(
        {
            "head_events": {**count, "minimum": 2},
            "label_head_events": {**count, "minimum": 1},
            "blob_max_bytes": {"type": "integer", "minimum": 512, "maximum": 1 << 20},
            "dedup_horizon": duration,
            "reorder": duration,
            "max_future_skew": duration,
        },
        "What a state may take, and how late an event may be.",
    )


def _name() -> Json:
    return {"type": "string", "pattern": _NAME}


def _ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _object(properties: Json, description: str, required: tuple[str, ...] = ()) -> Json:
    found: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        found["required"] = list(required)
    return found | ({"description": description} if description else {})


def _named(value: Json, description: str, least: int = 0, most: int | None = None) -> Json:
    """Return the schema of a mapping from names to values of one kind."""
    found: Json = {
        "type": "object",
        "propertyNames": {"pattern": _NAME},
        "additionalProperties": value,
        "minProperties": least,
        "description": description,
    }
    return found | ({} if most is None else {"maxProperties": most})
