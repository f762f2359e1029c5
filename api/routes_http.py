"""requests → answers of the hot routes, whichever face of the HTTP door they come by.

The faces (`api/decide_http.py` for ASGI, `api/door_http.py` on the socket) find the route, ask the
gate, read the body within its limit and send what is answered here.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from api.admin_http import AdminDeps
from api.answer import Answerer, Question
from api.coalesce import Coalescer
from api.errors import Answer, InProgress, MethodNotAllowed, problem_of
from api.features import FeatureDesk
from api.features_http import FeatureRoutes
from api.intake import BATCH_MAX_BYTES, Intake, is_list
from api.metrics import ServeMetrics
from api.publish import Outgoing, SpoolingPublisher
from api.route import JSON, Gate, Head, OpenGate, Request, Route
from features.event import EVENT_MAX_BYTES, decision_id, entity_key, identity_of
from features.spec import Spec
from features.topics import Topics

LOOK_AGAIN_S = 0.01
DECISIONS_PATH = "/v1/decisions"
FEATURES_PATH = "/v1/features"


@dataclass(frozen=True, slots=True)
class HttpDeps:
    """What the HTTP door needs; `riskbeat/` puts it together.

    Attributes:
        deadline_s: Longest wait for an answer; a request may ask for less.
        ready: Whether requests are taken now.
        gate: Who is let in.
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
    gate: Gate = field(default_factory=OpenGate)


class HotRoutes:
    """The routes that no framework sees."""

    def __init__(self, deps: HttpDeps) -> None:
        """Lay the table."""
        self._deps = deps
        features = FeatureRoutes(deps.features)
        self._exact: dict[bytes, Route] = {}
        self._under: list[Route] = []
        for route in (
            Route("/v1/decisions", self._decide, EVENT_MAX_BYTES),
            Route("/v1/decisions:batch", self._decide_batch, BATCH_MAX_BYTES),
            Route("/v1/events", self._take_events, BATCH_MAX_BYTES),
            Route("/v1/labels", self._take_labels, BATCH_MAX_BYTES),
            features.batch,
            features.one,
        ):
            if route.under:
                self._under.append(route)
            else:
                self._exact[route.name.encode()] = route

    def find(self, path: bytes) -> Route | None:
        """Return the route of a path; FastAPI's have none."""
        route = self._exact.get(path)
        if route is None:
            for under in self._under:
                if path.startswith(under.under):
                    return under
        return route

    def observe(self, route: Route, status: int, began: float) -> None:
        """Count an answer that was sent, and the time since its head was read."""
        metrics = self._deps.metrics
        metrics.requests.labels(route.name, str(status)).inc()
        if status == 500:
            return
        if route.name.startswith(DECISIONS_PATH):
            metrics.decision_seconds.labels("http").observe(time.perf_counter() - began)
        elif route.name.startswith(FEATURES_PATH):
            metrics.features_seconds.labels(route.name).observe(time.perf_counter() - began)

    async def _decide(self, request: Request) -> Answer:
        key = request.head.headers.get(b"idempotency-key")
        question = self._deps.intake.question(
            request.body, None if key is None else key.decode("latin-1")
        )
        return Answer(200, await self._ask(question, request.deadline_at), JSON)

    async def _decide_batch(self, request: Request) -> Answer:
        questions = self._deps.intake.questions(request.body)
        deadline_at = request.deadline_at
        answers = await asyncio.gather(
            *(self._ask(question, deadline_at) for question in questions), return_exceptions=True
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

    async def _ask(self, question: Question, deadline_at: float) -> bytes:
        """Return the answer; one that another asker is getting is waited for."""
        try:
            return await self._deps.coalescer.ask(question)
        except InProgress:
            while time.perf_counter() < deadline_at:
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


def check_method(route: Route, head: Head) -> None:
    """Hold a request's method against the one of its route.

    Raises:
        MethodNotAllowed: Another one is taken.
    """
    asked = "GET" if head.method == "HEAD" else head.method
    if asked != route.method:
        allowed = "GET, HEAD" if route.method == "GET" else route.method
        raise MethodNotAllowed(head.method, allowed)
