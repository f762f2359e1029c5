"""wire types → the OpenAPI 3.1 paths of the hot routes, which no framework sees."""

from typing import Any

import msgspec

from api.errors import PROBLEM_TYPE, Problem
from api.openapi_features import describe_features
from features.entity_features import EntityFeatures, FeatureQuestion
from features.event import Label
from features.event_wire import Event
from models.decision import Decision

_REF = "#/components/schemas/{name}"


def describe(document: dict[str, Any]) -> None:
    """Add the hot routes and their schemas to an OpenAPI document, in place."""
    types = (Event, Label, Decision, Problem, FeatureQuestion, EntityFeatures)
    _, components = msgspec.json.schema_components(types, ref_template=_REF)
    document.setdefault("components", {}).setdefault("schemas", {}).update(components)
    event, label, decision = _ref("Event"), _ref("Label"), _ref("Decision")
    accepted = {
        "type": "object",
        "required": ["accepted"],
        "properties": {"accepted": {"type": "integer"}, "decision_id": {"type": "string"}},
    }
    batch = {
        "type": "object",
        "required": ["decisions"],
        "properties": {
            "decisions": {"type": "array", "items": {"anyOf": [decision, _ref("Problem")]}}
        },
    }
    paths = document.setdefault("paths", {})
    paths["/v1/decisions"] = _post(
        "Score, decide and record one event", event, "200", decision, [_IDEMPOTENCY_KEY]
    )
    paths["/v1/decisions:batch"] = _post("Decide up to 1000 events", _list_of(event), "200", batch)
    paths["/v1/events"] = _post(
        "Take events; the stream door decides them", _one_or_many(event), "202", accepted
    )
    paths["/v1/labels"] = _post(
        "Take what is now known about events", _one_or_many(label), "202", accepted
    )
    describe_features(paths)


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _list_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": 1, "maxItems": 1000}


def _one_or_many(item: dict[str, Any]) -> dict[str, Any]:
    return {"oneOf": [item, _list_of(item)]}


def _post(
    summary: str,
    body: dict[str, Any],
    status: str,
    answer: dict[str, Any],
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    problem = {"content": {PROBLEM_TYPE: {"schema": _ref("Problem")}}}
    faults = {
        "400": "Not JSON",
        "409": "The same event is being decided",
        "413": "Too large",
        "422": "A field is at fault, or the same name came with another body",
        "429": "Too many requests wait",
        "503": "Not ready, or nothing could record the decision",
    }
    responses: dict[str, Any] = {
        status: {
            "description": "Done",
            "content": {"application/json": {"schema": answer}},
        }
    }
    responses |= {code: {"description": text, **problem} for code, text in faults.items()}
    return {
        "post": {
            "summary": summary,
            "parameters": parameters or [],
            "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
            "responses": responses,
        }
    }
