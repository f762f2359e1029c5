"""The OpenAPI 3.1 paths of the questions about features, with examples."""

from typing import Any

from api.errors import PROBLEM_TYPE, RETRY_AFTER_S
from api.questions import FEATURES_BATCH_MAX_ITEMS

_PROBLEM = {"content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
_RETRY = {
    "headers": {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds, as in: 1"}}
}
_AT = "2026-03-01T12:00:00.120Z"
_ANSWER = {
    "entity": "card",
    "id": "tok_9",
    "tenant": "default",
    "at": _AT,
    "state": "known",
    "newest_event_at": "2026-03-01T11:58:31.004Z",
    "features": {
        "card.count_over_10m": 1.0,
        "card.fraud_count_over_30d": 0.0,
        "card.std_of_amount_over_30d": None,
        "card.since_last": 89.116,
    },
    "missing": ["card.std_of_amount_over_30d"],
    "late_question": False,
    "fresh_until": "2026-03-01T12:00:00.082Z",
    "staleness_ms": 38,
    "stale": False,
    "spec_digest": "9f2c1d0e7b6a5948372615a4b3c2d1e0f9e8d7c6b5a4938271605f4e3d2c1b0a",
}
_COMPOSITE = {"entity": "card_merchant", "id": ["tok_9", "m_7"], "at": _AT}
_EXPLAIN = {
    "name": "explain",
    "in": "query",
    "description": "Whether `notes` says what each value means: type, unit, bound, definition.",
    "schema": {"type": "boolean", "default": False},
}


def describe_features(paths: dict[str, Any]) -> None:
    """Add the two routes to an OpenAPI document's paths, in place."""
    paths["/v1/features/{entity}/{id}"] = {"get": _one()}
    paths["/v1/features:batch"] = {"post": _many()}


def _one() -> dict[str, Any]:
    return {
        "summary": "What is known of an entity at an instant",
        "description": "Reads the live store once and evaluates every window at the instant asked."
        " A missing value is null and named in `missing`, a zero is 0, and what is stale says so."
        " An entity with a composite key takes a path segment for each part, in the order of the"
        " key: `/v1/features/card_merchant/tok_9/m_7`. Segments and values are percent-encoded"
        " (`/` in an id is `%2F`; behind a proxy that undoes this, use `/v1/features:batch`), and"
        " `+` is a plus.",
        "parameters": [
            _in_path("entity", "A name that the feature spec declares.", "card"),
            _in_path("id", "Percent-encoded; 1 to 256 characters, none a control.", "tok_9"),
            {
                "name": "at",
                "in": "query",
                "description": "RFC 3339 with an offset; absent means now. At most as far ahead as"
                " an event may be (`limits.max_future_skew`).",
                "schema": {"type": "string", "format": "date-time"},
                "example": _AT,
            },
            {
                "name": "tenant",
                "in": "query",
                "schema": {
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 256,
                    "default": "default",
                },
            },
            _EXPLAIN,
        ],
        "responses": {
            "200": _answer({"$ref": "#/components/schemas/EntityFeatures"}, _ANSWER),
            "404": {"description": "The spec declares no such entity", **_PROBLEM},
            "405": {"description": "Another method than GET", **_PROBLEM},
            **_faults(),
        },
    }


def _many() -> dict[str, Any]:
    item = {"$ref": "#/components/schemas/FeatureQuestion"}
    body = {
        "type": "array",
        "items": item,
        "minItems": 1,
        "maxItems": FEATURES_BATCH_MAX_ITEMS,
    }
    answer = {
        "type": "object",
        "required": ["features"],
        "properties": {
            "features": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/EntityFeatures"},
            }
        },
    }
    example = [{"entity": "card", "id": "tok_9"}, _COMPOSITE]
    return {
        "summary": f"What is known of up to {FEATURES_BATCH_MAX_ITEMS} entities",
        "description": "One round trip for all, each at its own instant; answered in order. If one"
        " question is at fault none is answered, and every fault is named.",
        "parameters": [_EXPLAIN],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": body, "example": example}},
        },
        "responses": {
            "200": _answer(answer, {"features": [_ANSWER]}),
            "413": {"description": "The body is too large", **_PROBLEM},
            **_faults(),
        },
    }


def _in_path(name: str, text: str, example: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string"},
        "example": example,
    }


def _answer(schema: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema, "example": example}}
    return {"description": "Done", "content": content}


def _faults() -> dict[str, Any]:
    away = f"Not ready, or the store does not answer or cannot be read; again in {RETRY_AFTER_S} s"
    return {
        "400": {"description": "Not JSON, or no percent-encoded UTF-8", **_PROBLEM},
        "422": {"description": "An id, the instant or a parameter is at fault", **_PROBLEM},
        "429": {"description": "Too many questions are being answered", **_PROBLEM, **_RETRY},
        "503": {"description": away, **_PROBLEM, **_RETRY},
    }
