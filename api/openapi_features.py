"""The OpenAPI 3.1 paths of the questions about features, with examples."""

from typing import Any

from api.openapi_parts import Body, list_of, operation, parameter, ref
from api.questions import FEATURES_BATCH_MAX_ITEMS

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
_TEXT = {"type": "string", "minLength": 1, "maxLength": 256}
_COMPOSITE = {"entity": "card_merchant", "id": ["tok_9", "m_7"], "at": _AT}
_EXPLAIN = parameter(
    "explain",
    "query",
    "Whether `notes` says what each value means: type, unit, bound, definition.",
    {"type": "boolean", "default": False},
    True,
)
_TENANT = {"type": "string", "minLength": 1, "maxLength": 256, "default": "default"}
_PROBLEMS = ("question", "malformed", "tenant", "overloaded", "store_away", "unreadable")


def feature_paths() -> dict[str, Any]:
    """Return the paths of the two routes."""
    return {
        "/v1/features/{entity}/{id}": {"get": _one()},
        "/v1/features:batch": {"post": _many()},
    }


def _one() -> dict[str, Any]:
    return operation(
        "showFeatures",
        "What is known of an entity at an instant",
        text="Reads the live store once and evaluates every window at the instant asked."
        " A missing value is null and named in `missing`, a zero is 0, and what is stale says so."
        " An entity with a composite key takes a path segment for each part, in the order of the"
        " key: `/v1/features/card_merchant/tok_9/m_7`. Segments and values are percent-encoded"
        " (`/` in an id is `%2F`; behind a proxy that undoes this, use `/v1/features:batch`), and"
        " `+` is a plus.",
        scope="read",
        parameters=[
            parameter("entity", "path", "A name that the spec declares.", _TEXT, "card"),
            parameter("id", "path", "1 to 256 characters, none a control.", _TEXT, "tok_9"),
            parameter(
                "at",
                "query",
                "RFC 3339 with an offset; absent means now. At most as far ahead as"
                " an event may be (`limits.max_future_skew`).",
                {"type": "string", "format": "date-time"},
                _AT,
            ),
            parameter("tenant", "query", "Whose entity.", _TENANT, "default"),
            _EXPLAIN,
        ],
        answer=("200", Body(ref("EntityFeatures"), _ANSWER)),
        problems=("no_entity", *_PROBLEMS),
        tag="features",
    )


def _many() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["features"],
        "properties": {"features": {"type": "array", "items": ref("EntityFeatures")}},
    }
    asked = [{"entity": "card", "id": "tok_9"}, _COMPOSITE]
    return operation(
        "showManyFeatures",
        f"What is known of up to {FEATURES_BATCH_MAX_ITEMS} entities",
        text="One round trip for all, each at its own instant; answered in order. If one"
        " question is at fault none is answered, and every fault is named.",
        scope="read",
        parameters=[_EXPLAIN],
        body=Body(list_of(ref("FeatureQuestion"), FEATURES_BATCH_MAX_ITEMS), asked),
        answer=("200", Body(schema, {"features": [_ANSWER]})),
        problems=("items", "too_large", *_PROBLEMS),
        tag="features",
    )
