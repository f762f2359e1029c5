"""requests → answers of the hot routes, whichever face of the HTTP door they come by.

The faces (`api/decide_http.py` for ASGI, `api/door_http.py` on the socket) find the route, ask the
gate, read the body within its limit and send what is answered here.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from api.admin_http import AdminDeps
from api.answer import Answerer, Question
from api.asking_http import AskingRoutes
from api.coalesce import Coalescer
from api.dry_run import DryRuns
from api.errors import Answer, InProgress, MethodNotAllowed, problem_of
from api.features import FeatureDesk
from api.features_http import FeatureRoutes
from api.intake import BATCH_MAX_BYTES, Intake
from api.lookup import LookupDesk
from api.metrics import ServeMetrics
from api.ndjson import answer_lines
from api.publish import SpoolingPublisher
from api.route import JSON, Gate, Head, OpenGate, Request, Route
from api.taking_http import TakingRoutes, caller_of
from features.event import EVENT_MAX_BYTES
from features.spec import Spec
from features.topics import Topics

LOOK_AGAIN_S = 0.01
DECIDING = ("/v1/decisions", "/v1/decisions:batch")
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
    dry_runs: DryRuns
    lookups: LookupDesk
    gate: Gate = field(default_factory=OpenGate)


class HotRoutes:
    """The routes that no framework sees."""

    def __init__(self, deps: HttpDeps) -> None:
        """Lay the table."""
        self._deps = deps
        features = FeatureRoutes(deps.features, deps.gate)
        taking = TakingRoutes(deps.spec, deps.topics, deps.intake, deps.publisher, deps.gate)
        asking = AskingRoutes(deps.intake, deps.dry_runs, deps.lookups)
        self._exact: dict[bytes, Route] = {}
        self._under: list[Route] = []
        for route in (
            Route("/v1/decisions", self._decide, EVENT_MAX_BYTES),
            Route("/v1/decisions:batch", self._decide_batch, BATCH_MAX_BYTES),
            taking.events,
            taking.labels,
            asking.dry_run,
            asking.lookup,
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
        if route.name in DECIDING:
            metrics.decision_seconds.labels("http").observe(time.perf_counter() - began)
        elif route.name.startswith(FEATURES_PATH):
            metrics.features_seconds.labels(route.name).observe(time.perf_counter() - began)

    async def _decide(self, request: Request) -> Answer:
        key = request.head.headers.get(b"idempotency-key")
        question = self._deps.intake.question(
            request.body, None if key is None else key.decode("latin-1"), caller_of(request)
        )
        return Answer(200, await self._ask(question, request.deadline_at), JSON)

    async def _decide_batch(self, request: Request) -> Answer:
        """Decide an array, all or none; of lines each by itself, and each is answered by one."""
        caller = caller_of(request)
        questions: Sequence[Question | Exception]
        if caller.lines:
            questions = self._deps.intake.question_lines(request.body, caller)
        else:
            questions = self._deps.intake.questions(request.body, caller)
        self._deps.gate.weigh(request.principal, request.head, len(questions))
        bodies = await self._ask_many(questions, request.deadline_at)
        if caller.lines:
            return answer_lines(bodies)
        return Answer(200, b'{"decisions":[' + b",".join(bodies) + b"]}", JSON)

    async def _ask_many(
        self, questions: Sequence[Question | Exception], deadline_at: float
    ) -> list[bytes]:
        asked = [question for question in questions if isinstance(question, Question)]
        answers = iter(
            await asyncio.gather(
                *(self._ask(question, deadline_at) for question in asked), return_exceptions=True
            )
        )
        bodies: list[bytes] = []
        for question in questions:
            answer = next(answers) if isinstance(question, Question) else question
            if isinstance(answer, bytes):
                bodies.append(answer)
            elif isinstance(answer, Exception):
                bodies.append(problem_of(answer).body)
            else:
                raise answer
        return bodies

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


def check_method(route: Route, head: Head) -> None:
    """Hold a request's method against the one of its route.

    Raises:
        MethodNotAllowed: Another one is taken.
    """
    asked = "GET" if head.method == "HEAD" else head.method
    if asked != route.method:
        allowed = "GET, HEAD" if route.method == "GET" else route.method
        raise MethodNotAllowed(head.method, allowed)
