"""Health, metrics, model and documentation over HTTP: everything that is not hot."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.errors import KNOWN, FieldError, problem_of, problem_of_status
from api.metrics import ServeMetrics
from api.model_http import add_acts
from api.openapi import openapi
from api.rollout_page import look, row_of
from features.event import EventRules
from models.audit import AuditLog
from models.registry import WeightsRegistry
from models.rollout_store import RolloutStore
from models.scorer import NoWeights, Scorer


def wall_ms() -> int:
    """Return the wall clock in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class AdminDeps:
    """What the cold routes show.

    Attributes:
        health: Part → what is wrong with it, or "ok"; what is not ok degrades, and is no reason
            to take requests elsewhere.
        ready: Whether requests are taken now.
        rules: What the feature spec allows, for the documents.
        topics: The AsyncAPI document (JSON).
        now_ms: Wall clock, milliseconds since 1970.
    """

    version: str
    scorer: Scorer
    registry: WeightsRegistry
    rollouts: RolloutStore
    audit: AuditLog
    metrics: ServeMetrics
    health: Callable[[], Mapping[str, str]]
    ready: Callable[[], bool]
    rules: EventRules | None = None
    topics: bytes = b"{}"
    now_ms: Callable[[], int] = wall_ms


class _Described(FastAPI):
    """An application that is described by a document of our own: the hot routes are none of its.

    Attributes:
        document: The OpenAPI document.
    """

    document: dict[str, Any]

    def openapi(self) -> dict[str, Any]:
        """Return the document."""
        return self.document


def create_admin(deps: AdminDeps) -> FastAPI:
    """Return the application of the cold routes; whatever it refuses is a problem document."""
    app = _Described(title="riskbeat", version=deps.version, redoc_url=None)
    app.document = openapi(deps.version, deps.rules)
    _add_health(app, deps)
    _add_model(app, deps)
    add_acts(app, deps.registry, deps.audit, deps.now_ms)
    _add_topics(app, deps.topics)
    for kind in KNOWN:
        app.add_exception_handler(kind, _answer_problem)
    app.add_exception_handler(Exception, _answer_problem)  # and raise it again, for the log
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_refused)
    return app


async def _answer_problem(_: Request, error: Exception) -> Response:
    answer = problem_of(error)
    return Response(answer.body, answer.status, answer.headers)


async def _answer_invalid(_: Request, error: Exception) -> Response:
    """Answer a parameter that FastAPI refused: where it stood, as a JSON pointer."""
    assert isinstance(error, RequestValidationError)
    fields = [
        FieldError("".join(f"/{step}" for step in fault["loc"]), fault["msg"], "wrong_type")
        for fault in error.errors()
    ]
    answer = problem_of_status(422, "a parameter is at fault", fields, "invalid")
    return Response(answer.body, answer.status, answer.headers)


async def _answer_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = problem_of_status(error.status_code, error.detail)
    return Response(answer.body, answer.status, answer.headers | dict(error.headers or {}))


def _add_topics(app: FastAPI, document: bytes) -> None:
    @app.get("/asyncapi.json", include_in_schema=False)
    async def topics() -> Response:
        return Response(document, media_type="application/json")


def _add_health(app: FastAPI, deps: AdminDeps) -> None:
    @app.get("/healthz", summary="Whether the process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="Whether requests are taken, and what is degraded")
    async def readyz() -> JSONResponse:
        ready = deps.ready()
        content = {"status": "ready" if ready else "not_ready", "parts": dict(deps.health())}
        return JSONResponse(content, 200 if ready else 503)

    @app.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def metrics(accept: Annotated[str, Header(include_in_schema=False)] = "") -> Response:
        page, kind = deps.metrics.page(accept)
        return Response(page, headers={"content-type": kind})


def _add_model(app: FastAPI, deps: AdminDeps) -> None:
    @app.get("/v1/model", summary="The weights that answer now, or null")
    async def model() -> dict[str, Any]:
        try:
            snapshot = deps.scorer.snapshot()
        except NoWeights:
            return {"active": None, "build": deps.scorer.build, "device": deps.scorer.device}
        weights = snapshot.weights
        active = {
            "name": weights.model,
            "version": weights.version,
            "sha256": snapshot.sha256,
            "schema": weights.schema_digest,
            "created_at_ms": weights.created_at_ms,
            "learned_until_ms": weights.learned_until_ms,
            "labels_learned": weights.labels_learned,
            "metrics": dict(weights.metrics),
        }
        return {"active": active, "build": deps.scorer.build, "device": deps.scorer.device}

    @app.get("/v1/model/versions", summary="Where the registry's pointers and the scorers stand")
    async def versions() -> dict[str, Any]:
        standing = await deps.registry.standing()
        scorers = dict(await deps.registry.active_versions())
        found = scorers.values()
        return {
            "latest": standing.latest,
            "active": standing.active,
            "pinned": standing.pinned,
            "scorers": scorers,
            "spread": max(found) - min(found) if found else 0,
            "behind": sum(version != standing.active for version in found),
            "here": dict(deps.scorer.versions()),
        }

    @app.get("/v1/model/rollout", summary="What is rolled out, and how it does; null for nothing")
    async def rollout() -> dict[str, Any]:
        return dict(row_of(*await look(deps.rollouts)))
