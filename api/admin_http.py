"""Health, metrics, model and documentation over HTTP: everything that is not hot."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from api.errors import problem_of, problem_of_status
from api.metrics import CONTENT_TYPE, ServeMetrics
from api.openapi import describe
from api.rollout_page import look, row_of
from models.registry import RegistryUnavailable, WeightsRegistry
from models.rollout_store import RolloutStore
from models.scorer import NoWeights, Scorer


@dataclass(frozen=True, slots=True)
class AdminDeps:
    """What the cold routes show.

    Attributes:
        health: Part → what is wrong with it, or "ok"; what is not ok degrades, and is no reason
            to take requests elsewhere.
        ready: Whether requests are taken now.
    """

    version: str
    scorer: Scorer
    registry: WeightsRegistry
    rollouts: RolloutStore
    metrics: ServeMetrics
    health: Callable[[], Mapping[str, str]]
    ready: Callable[[], bool]


def create_admin(deps: AdminDeps) -> FastAPI:
    """Return the application of the cold routes."""
    app = FastAPI(title="riskbeat", version=deps.version, redoc_url=None)
    _add_health(app, deps)
    _add_model(app, deps)
    described = app.openapi()
    describe(described)
    app.openapi_schema = described

    @app.exception_handler(RegistryUnavailable)
    async def _unavailable(_: Request, error: Exception) -> Response:
        answer = problem_of(error)
        return Response(answer.body, answer.status, answer.headers)

    @app.exception_handler(HTTPException)
    async def _refused(_: Request, error: HTTPException) -> Response:
        answer = problem_of_status(error.status_code, error.detail)
        return Response(answer.body, answer.status, answer.headers | dict(error.headers or {}))

    return app


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
    async def metrics() -> Response:
        return Response(deps.metrics.page(), media_type=CONTENT_TYPE)


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
