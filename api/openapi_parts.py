"""The pieces of the OpenAPI document: operations, bodies, and every problem with an example.

An example of a problem is made by `problem_of` from the error that it stands for, so the document
shows what is answered and nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from api.errors import (
    PROBLEM_TYPE,
    RETRY_AFTER_S,
    BodyTooLarge,
    DeadlineMissed,
    Draining,
    FeaturesUnreadable,
    HeadTooLarge,
    IdempotencyConflict,
    IndexBehind,
    InProgress,
    Malformed,
    ManyRejected,
    MethodNotAllowed,
    NoSuchDecision,
    NotRecorded,
    Overloaded,
    TenantRefused,
    TooSlow,
    problem_of,
)
from api.keys import KeyRefused, KeysUnavailable, Scope, ScopeMissing
from api.limits import RateLimited
from features.entity_features import QuestionRejected
from features.event import EventRejected
from features.store import StoreUnavailable
from models.audit import AuditUnavailable
from models.registry import NoWeights, RegistryUnavailable

JSON_TYPE: Final = "application/json"
NDJSON_TYPE: Final = "application/x-ndjson"
KEY: Final = "key"

_NO_AMOUNT = EventRejected("missing_field", "/amount", "an amount is required")
PROBLEMS: Final[Mapping[str, Exception]] = {
    "malformed": EventRejected("malformed", "", "JSON is malformed: expected ':' (byte 14)"),
    "no_list": EventRejected("malformed", "", "expected a JSON array: Expected `array`"),
    "field": _NO_AMOUNT,
    "items": ManyRejected([(1, _NO_AMOUNT)]),
    "too_many": EventRejected("too_many", "", "1001 items; 1 to 1000 are taken"),
    "question": QuestionRejected("time_out_of_range", "/at", "lies before 1970"),
    "no_entity": QuestionRejected("unknown_entity", "/entity", "expected one of: card, device"),
    "conflict": IdempotencyConflict("this event or key was sent before with another body"),
    "in_progress": InProgress("the same event is being decided right now"),
    "too_large": BodyTooLarge("more than 65536 bytes"),
    "no_key": KeyRefused("the key is unknown, expired or revoked"),
    "scope": ScopeMissing("shop", "read"),
    "tenant": TenantRefused("acme"),
    "rate": RateLimited("key", 5000.0, 0.4),
    "overloaded": Overloaded("2048 requests wait"),
    "no_http": Malformed("the bytes are no HTTP request"),
    "large_head": HeadTooLarge("request line and headers exceed 16384 bytes"),
    "slow": TooSlow("the request did not come to its end in time"),
    "deadline": DeadlineMissed("no answer was ready in time"),
    "draining": Draining("this process is stopping or not ready"),
    "keys_away": KeysUnavailable("the store of the keys does not answer"),
    "not_recorded": NotRecorded("the spool holds 268435456 of 268435456 bytes"),
    "store_away": StoreUnavailable("timeout", "no answer within 1 s"),
    "unreadable": FeaturesUnreadable("the store holds another spec"),
    "no_decision": NoSuchDecision("none of this id is known; decisions leave with the horizon"),
    "behind": IndexBehind("the index of decisions is 14 s behind the log"),
    "no_version": NoWeights("version 41 is not in the registry"),
    "audit_away": AuditUnavailable("no broker took the act within 15 s"),
    "registry_away": RegistryUnavailable("EVAL: no answer"),
    "method": MethodNotAllowed("PUT", "POST"),
}
_BY_DOOR: Final = ("no_http", "slow", "large_head", "method")
_BY_GATE: Final = ("no_key", "scope", "rate", "keys_away", "draining", *_BY_DOOR)
_TITLES: Final = {
    "400": "The bytes are no such document",
    "401": "A valid API key is needed",
    "403": "The key is not for this, or speaks for another tenant",
    "404": "There is no such thing",
    "405": "The route does not take this method",
    "408": "The request did not come to its end in time",
    "409": "The same event is being decided; ask again",
    "413": "The body is too large",
    "422": "A field is at fault, or the same name came with another body",
    "431": "Request line and headers are too large",
    "429": "This caller asks too much, or too many requests wait",
    "503": "Not now: come again",
}


class Body(NamedTuple):
    """What a request or an answer bears: media type → schema and an example."""

    schema: Mapping[str, Any]
    example: Any
    lines: Sequence[Any] = ()
    line_schema: Mapping[str, Any] | None = None

    def content(self) -> dict[str, Any]:
        """Return it as OpenAPI's `content`."""
        media: dict[str, Any] = {JSON_TYPE: {"schema": self.schema, "example": self.example}}
        if self.lines:
            text = "".join(json.dumps(line) + "\n" for line in self.lines)
            shown: dict[str, Any] = {"type": "string", "description": "A document a line."}
            if self.line_schema is not None:
                shown["contentMediaType"] = NDJSON_TYPE
                shown["contentSchema"] = self.line_schema
            media[NDJSON_TYPE] = {"schema": shown, "example": text}
        return media


def ref(name: str) -> dict[str, str]:
    """Return a reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def list_of(item: Mapping[str, Any], most: int) -> dict[str, Any]:
    """Return a schema of a list of 1 to `most`."""
    return {"type": "array", "items": dict(item), "minItems": 1, "maxItems": most}


def parameter(
    name: str, place: str, text: str, schema: Mapping[str, Any], example: Any = None
) -> dict[str, Any]:
    """Return a parameter; those in a path are required."""
    made: dict[str, Any] = {"name": name, "in": place, "description": text}
    made |= {"schema": dict(schema), "required": place == "path"}
    return made if example is None else made | {"example": example}


def operation(
    name: str,
    summary: str,
    *,
    scope: Scope | None,
    answer: tuple[str, Body],
    body: Body | None = None,
    parameters: Sequence[Mapping[str, Any]] = (),
    problems: Sequence[str] = (),
    text: str = "",
    tag: str = "decisions",
) -> dict[str, Any]:
    """Return an operation, with its problems and those of every route that a key opens.

    Args:
        name: Of the operation, unique.
        summary: One line.
        scope: What its key must be for; None for a route that anybody may ask.
        answer: Status and body of success.
        body: Of the request.
        parameters: Of path, query and headers.
        problems: Names of problems that it may answer, beside those of the gate.
        text: More than a line.
        tag: Under which it is shown.
    """
    status, good = answer
    gate = _BY_GATE if scope is not None else _BY_DOOR
    made: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "parameters": [*map(dict, parameters), {"$ref": "#/components/parameters/RequestId"}],
        "responses": {
            status: {
                "description": "Done",
                "headers": _headers(status),
                "content": good.content(),
            },
            **_problems((*problems, *gate)),
        },
        "security": [{KEY: [scope]}] if scope is not None else [],
    }
    if text:
        made["description"] = text
    if body is not None:
        made["requestBody"] = {"required": True, "content": body.content()}
    return made


def _problems(names: Sequence[str]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        answer = problem_of(PROBLEMS[name])
        shown = {"$ref": f"#/components/examples/{name}"}
        found.setdefault(str(answer.status), {})[name] = shown
    return {
        status: {
            "description": _TITLES[status],
            "headers": _headers(status),
            "content": {PROBLEM_TYPE: {"schema": ref("Problem"), "examples": examples}},
        }
        for status, examples in sorted(found.items())
    }


def _headers(status: str) -> dict[str, Any]:
    made: dict[str, Any] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
    if status in ("409", "429", "503"):
        made["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}
    if status == "401":
        made["WWW-Authenticate"] = {"schema": {"type": "string"}, "required": True}
    if status == "405":
        made["Allow"] = {"schema": {"type": "string"}, "required": True}
    return made


def common_components() -> dict[str, Any]:
    """Return what operations refer to, but for the schemas."""
    return {
        "securitySchemes": {
            KEY: {
                "type": "http",
                "scheme": "bearer",
                "description": "An API key: `riskbeat keys create NAME --scope …`. The scope that "
                "each operation needs stands beside it. A service that was started with "
                "`RISKBEAT_AUTH=off` asks for none.",
            }
        },
        "parameters": {
            "RequestId": parameter(
                "X-Request-Id",
                "header",
                "Stands in the answer and in log lines. One that is missing, longer than 128 "
                "characters or odd is replaced.",
                {"type": "string"},
                "req-7f3a",
            )
        },
        "examples": {
            name: {"value": json.loads(problem_of(error).body)} for name, error in PROBLEMS.items()
        },
        "headers": {
            "RequestId": {
                "description": "The name of the request: the caller's, or one that was made.",
                "schema": {"type": "string"},
                "required": True,
                "example": "req-7f3a",
            },
            "RetryAfter": {
                "description": "Seconds after which it makes sense to come again.",
                "schema": {"type": "integer", "minimum": 1},
                "required": True,
                "example": RETRY_AFTER_S,
            },
        },
    }
