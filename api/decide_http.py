"""HTTP around the step: bytes in, an `Answer` out, problems by the one table.

The hot routes are served by a plain ASGI callable that takes raw bodies, and so are questions about
features (`api/features_http.py`), whose ids need the path as it was sent; everything else (health,
metrics, model, documentation) is FastAPI's (`api/admin_http.py`). In front of both stand the
limits: the size of a body is refused before it is read.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from api.admin_http import AdminDeps, create_admin
from api.answer import Answerer, Question
from api.coalesce import Coalescer
from api.errors import Answer, BodyTooLarge, Draining, InProgress, problem_of
from api.features import FeatureDesk
from api.features_http import FeatureRoutes
from api.intake import BATCH_MAX_BYTES, Intake, is_list
from api.metrics import ServeMetrics
from api.publish import Outgoing, SpoolingPublisher
from api.route import JSON, Request, Route
from features.event import EVENT_MAX_BYTES, EventRejected, decision_id, entity_key, identity_of
from features.spec import Spec
from features.topics import Topics

LOOK_AGAIN_S = 0.01
DECISIONS_PATH = "/v1/decisions"
FEATURES_PATH = "/v1/features"


@dataclass(frozen=True, slots=True)
class HttpDeps:
    """What the HTTP door needs; `riskbeat/` puts it together.

    Attributes:
        deadline_s: Longest wait for an answer that somebody else is making.
        ready: Whether requests are taken now.
    """

    spec: Spec
    topics: Topics
    intake: Intake
    answerer: Answerer
    coalescer: Coalescer[Question, bytes]
    publisher: SpoolingPublisher
    metrics: ServeMetrics
    admin: AdminDeps
    deadline_s: float
    ready: Callable[[], bool]
    features: FeatureDesk


def create_app(deps: HttpDeps) -> "HttpDoor":
    """Return the ASGI application."""
    return HttpDoor(deps, create_admin(deps.admin))


class HttpDoor:
    """The hot routes, and FastAPI behind them."""

    def __init__(self, deps: HttpDeps, admin: FastAPI) -> None:
        """Lay the table of hot routes."""
        self._deps = deps
        self._admin = admin
        self._features = FeatureRoutes(deps.features)
        routes = [
            Route("/v1/decisions", self._decide, EVENT_MAX_BYTES),
            Route("/v1/decisions:batch", self._decide_batch, BATCH_MAX_BYTES),
            Route("/v1/events", self._take_events, BATCH_MAX_BYTES),
            Route("/v1/labels", self._take_labels, BATCH_MAX_BYTES),
            self._features.batch,
        ]
        self._routes = {route.name: route for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; see the ASGI specification."""
        route = self._route_of(scope)
        if route is None:
            await self._admin(scope, receive, send)
            return
        began = time.perf_counter()
        metrics = self._deps.metrics
        try:
            answer = await self._serve(route, scope, receive)
        except Exception as error:  # the top of the request: answer, then let ours be heard
            answer = problem_of(error)
            if answer.status == 500:
                metrics.requests.labels(route.name, "500").inc()
                await _send(send, answer)
                raise
        metrics.requests.labels(route.name, str(answer.status)).inc()
        await _send(send, answer)
        if route.name.startswith(DECISIONS_PATH):
            metrics.decision_seconds.labels("http").observe(time.perf_counter() - began)
        elif route.name.startswith(FEATURES_PATH):
            metrics.features_seconds.labels(route.name).observe(time.perf_counter() - began)

    def _route_of(self, scope: Scope) -> Route | None:
        """Return the route that serves a request here; FastAPI's have none."""
        if scope["type"] != "http":
            return None
        if scope["path"].startswith(f"{FEATURES_PATH}/"):
            return self._features.one
        return self._routes.get(scope["path"]) if scope["method"] == "POST" else None

    async def _serve(self, route: Route, scope: Scope, receive: Receive) -> Answer:
        if not self._deps.ready():
            raise Draining("this process is stopping or not ready")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        body = await _read(headers, receive, route.body_max_bytes)
        path = scope.get("raw_path") or scope["path"].encode()
        return await route.serve(
            Request(body, headers, scope["method"], path, scope["query_string"])
        )

    async def _decide(self, request: Request) -> Answer:
        key = request.headers.get(b"idempotency-key")
        question = self._deps.intake.question(
            request.body, None if key is None else key.decode("latin-1")
        )
        return Answer(200, await self._ask(question), JSON)

    async def _decide_batch(self, request: Request) -> Answer:
        questions = self._deps.intake.questions(request.body)
        answers = await asyncio.gather(
            *(self._ask(question) for question in questions), return_exceptions=True
        )
        bodies: list[bytes] = []
        for answer in answers:
            if isinstance(answer, bytes):
                bodies.append(answer)
            elif isinstance(answer, Exception):
                bodies.append(problem_of(answer).body)
            else:
                raise answer
        return Answer(200, b'{"decisions":[' + b",".join(bodies) + b"]}", JSON)

    async def _ask(self, question: Question) -> bytes:
        """Return the answer; one that another asker is getting is waited for."""
        deadline = time.perf_counter() + self._deps.deadline_s
        try:
            return await self._deps.coalescer.ask(question)
        except InProgress:
            while time.perf_counter() < deadline:
                await asyncio.sleep(LOOK_AGAIN_S)
                answer = await self._deps.answerer.look_up(question.claim)
                if answer is not None:
                    return answer
            raise

    async def _take_events(self, request: Request) -> Answer:
        """Send events to the log undecided; the stream door decides them."""
        types = self._deps.spec.event_rules.event_types
        topic = self._deps.topics.events
        taken = self._deps.intake.events(request.body)
        records: list[Outgoing] = []
        for event, body in taken:
            primary = types[event.event_type].primary
            key = entity_key(event.tenant, primary, event.entities[primary])
            records.append(Outgoing(topic, key, body))
        await self._deps.publisher.publish_many(records)
        if is_list(request.body):
            return Answer(202, b'{"accepted":%d}' % len(taken), JSON)
        name = decision_id(identity_of(taken[0][0])).encode()
        return Answer(202, b'{"accepted":1,"decision_id":"%s"}' % name, JSON)

    async def _take_labels(self, request: Request) -> Answer:
        """Send labels to the log; the learner joins them with their decisions."""
        topic = self._deps.topics.labels
        taken = self._deps.intake.labels(request.body)
        records = [Outgoing(topic, identity_of(label).encode(), body) for label, body in taken]
        await self._deps.publisher.publish_many(records)
        return Answer(202, b'{"accepted":%d}' % len(taken), JSON)


async def _read(headers: dict[bytes, bytes], receive: Receive, max_bytes: int) -> bytes:
    """Return the body, unless it says or proves that it is larger than the limit."""
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > max_bytes:
        raise BodyTooLarge(f"{int(length)} bytes; at most {max_bytes} are taken")
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise EventRejected("malformed", "", "the body ended early")
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > max_bytes:
            raise BodyTooLarge(f"more than {max_bytes} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send(send: Send, answer: Answer) -> None:
    headers: list[tuple[bytes, bytes]] = [
        (name.encode(), value.encode()) for name, value in answer.headers.items()
    ]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    start: dict[str, Any] = {
        "type": "http.response.start",
        "status": answer.status,
        "headers": headers,
    }
    await send(start)
    await send({"type": "http.response.body", "body": answer.body})
