"""wire types, the spec's rules → the OpenAPI 3.1 document of everything that HTTP serves."""

from collections.abc import Mapping
from typing import Any

import msgspec

from api.errors import Problem
from api.model_acts import ActAsked, Acted, PinAsked
from api.openapi_decisions import decision_paths
from api.openapi_features import feature_paths
from api.openapi_model import model_paths
from api.openapi_parts import common_components
from features.entity_features import EntityFeatures, FeatureQuestion
from features.event import EventRules, Label
from features.event_wire import Event
from models.decision import Decision
from models.registry import Activation

_TYPES = (
    Event,
    Label,
    Decision,
    Problem,
    FeatureQuestion,
    EntityFeatures,
    PinAsked,
    ActAsked,
    Acted,
    Activation,
)
_TEXT = """Scores payments for fraud. A decision is recorded before it is answered, and is answered
once: the same event again gets the first answer. Errors are problem documents (RFC 9457) whose
`errors` name each field by a JSON pointer. `traceparent` is handed on to the records of events and
decisions. Health, metrics and this document need no key.""".replace("\n", " ")


def openapi(version: str, rules: EventRules | None) -> dict[str, Any]:
    """Return the document.

    Args:
        version: Of riskbeat.
        rules: What the feature spec allows; by it event types and currencies are enumerated.
    """
    _, schemas = msgspec.json.schema_components(_TYPES, ref_template="#/components/schemas/{name}")
    if rules is not None:
        _narrow(schemas, rules)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "riskbeat",
            "version": version,
            "summary": "Streaming risk scoring for payments that learns while it answers",
            "description": _TEXT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "decisions", "description": "Decide, try, look up."},
            {"name": "log", "description": "Send events and labels."},
            {"name": "features", "description": "Ask what is known."},
            {"name": "model", "description": "See and hold what answers."},
            {"name": "operation", "description": "Probes and metrics; open to anybody."},
        ],
        "paths": {**decision_paths(), **feature_paths(), **model_paths()},
        "components": {"schemas": schemas, **common_components()},
    }


def _narrow(schemas: Mapping[str, Any], rules: EventRules) -> None:
    """Say in the schemas what the spec says: which event types, currencies, primary entities."""
    types = sorted(rules.event_types)
    for name in ("Event", "Label"):
        schemas[name]["properties"]["event_type"] = {"enum": types}
    schemas["Amount"]["properties"]["currency"] = {"enum": sorted(rules.currencies)}
    event = schemas["Event"]
    event["allOf"] = [
        {
            "if": {"properties": {"event_type": {"const": name}}},
            "then": {
                "properties": {"entities": {"required": [kind.primary]}},
                **({"required": ["amount"]} if kind.amount_required else {}),
            },
        }
        for name, kind in sorted(rules.event_types.items())
    ]
