"""The OpenAPI paths of the model, its acts, probes and metrics."""

from typing import Any, Final

from api.openapi_parts import Body, operation, parameter, ref
from models.registry import HISTORY_MAX

_OBJECT: Final = {"type": "object"}
_WHY: Final = "the new threshold alerts twice as often"
_ACT: Final = {"act": "pin", "version": 41, "by": "ops", "why": _WHY, "at_ms": 1772366400120}
_ACTIVE: Final = {
    "name": "champion",
    "version": 184223,
    "sha256": "5d41402abc4b2a76b9719d911017c592",
    "schema": "9f2c1d0e7b6a",
    "created_at_ms": 1772366399480,
    "learned_until_ms": 1772366399100,
    "labels_learned": 51203,
    "metrics": {"auc": 0.871},
}


def model_paths() -> dict[str, Any]:
    """Return the paths."""
    return {
        "/v1/model": {"get": _active()},
        "/v1/model/versions": {"get": _versions()},
        "/v1/model/acts": {"get": _acts()},
        "/v1/model/rollout": {"get": _rollout()},
        "/v1/model/pin": {"post": _act("pin", "Answer with one version, whatever is published")},
        "/v1/model/unpin": {"post": _act("unpin", "Answer with the newest version again")},
        "/v1/model/rollback": {"post": _act("rollback", "Pin the version before the active one")},
        "/healthz": {"get": _open("isAlive", "Whether the process lives", {"status": "ok"})},
        "/readyz": {"get": _ready()},
        "/metrics": {"get": _metrics()},
    }


def _active() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["active", "build", "device"],
        "properties": {"active": {"type": ["object", "null"]}},
    }
    example = {"active": _ACTIVE, "build": "riskbeat-0.1.0", "device": "cpu"}
    return operation(
        "showModel",
        "The weights that answer now, or null",
        scope="read",
        answer=("200", Body(schema, example)),
        tag="model",
    )


def _versions() -> dict[str, Any]:
    schema = {"type": "object", "required": ["latest", "active", "pinned", "scorers"]}
    example = {"latest": 42, "active": 41, "pinned": True, "scorers": {"scorer-1": 41}}
    return operation(
        "listVersions",
        "Where the registry's pointers and the scorers stand",
        scope="read",
        answer=("200", Body(schema, example)),
        problems=("registry_away",),
        tag="model",
    )


def _rollout() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["line", "revision", "rollout"],
        "properties": {"rollout": {"type": ["object", "null"]}},
    }
    return operation(
        "showRollout",
        "What is rolled out, and how it does; null for nothing",
        scope="read",
        answer=("200", Body(schema, {"line": "9f2c1d0e7b6a", "revision": 3, "rollout": None})),
        problems=("registry_away",),
        tag="model",
    )


def _acts() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["acts"],
        "properties": {"acts": {"type": "array", "items": ref("Activation")}},
    }
    limit = {"type": "integer", "minimum": 1, "maximum": HISTORY_MAX, "default": 50}
    return operation(
        "listActs",
        "Who did what to the model, and why; the newest first",
        scope="read",
        parameters=[parameter("limit", "query", "How many.", limit, 10)],
        answer=("200", Body(schema, {"acts": [_ACT]})),
        problems=("question", "registry_away"),
        tag="model",
    )


def _act(name: str, summary: str) -> dict[str, Any]:
    asked = {"version": 41, "why": _WHY} if name == "pin" else {"why": _WHY}
    done = _ACT | {"act": "unpin" if name == "unpin" else "pin"}
    missing = () if name == "unpin" else ("no_version",)
    return operation(
        f"{name}Model",
        summary,
        text="Kept in the registry's list of acts, with the name of the key and the reason. Scorers"
        " follow within their poll interval.",
        scope="admin",
        body=Body(ref("PinAsked" if name == "pin" else "ActAsked"), asked),
        answer=("200", Body(ref("Acted"), done)),
        problems=("malformed", "field", "too_large", "audit_away", "registry_away", *missing),
        tag="model",
    )


def _open(name: str, summary: str, example: dict[str, Any]) -> dict[str, Any]:
    answer = ("200", Body(_OBJECT, example))
    return operation(name, summary, scope=None, answer=answer, tag="operation")


def _ready() -> dict[str, Any]:
    parts = {"features": "ok", "log": "ok", "weights": "version 41", "keys": "ok"}
    made = _open(
        "isReady",
        "Whether requests are taken, and what is degraded",
        {"status": "ready", "parts": parts},
    )
    not_ready = Body(_OBJECT, {"status": "not_ready", "parts": parts}).content()
    made["responses"]["503"] = {"description": "Requests are not taken now", "content": not_ready}
    return made


def _metrics() -> dict[str, Any]:
    made = _open("showMetrics", "Prometheus metrics", {})
    page = "# HELP riskbeat_weights_version Version of the weights in use; 0 before one.\n"
    made["responses"]["200"]["content"] = {
        "text/plain": {"schema": {"type": "string"}, "example": page}
    }
    return made
