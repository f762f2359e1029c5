"""requests → answers of the hot routes, whichever face of the HTTP door they come by.

The faces (`api/decide_http.py` for ASGI, `api/door_http.py` on the socket) find the route, ask the
gate, read the body within its limit and send what is answered here.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

from api.admin_http import AdminDeps
from api.answer import Answerer, Question
from api.coalesce import Coalescer
from api.deadline import deadline_of
from api.errors import Answer, Draining, InProgress, MethodNotAllowed, problem_of
from api.features import FeatureDesk
from api.features_http import FeatureRoutes
from api.intake import BATCH_MAX_BYTES, Intake, is_list
from api.metrics import ServeMetrics
from api.publish import Outgoing, SpoolingPublisher
from api.route import JSON, Admitted, Begun, Gate, Head, OpenGate, Reply, Request, Route
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
        list_deadline_s: The same for a list of questions.
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
    list_deadline_s: float
    ready: Callable[[], bool]
    features: FeatureDesk
    gate: Gate = field(default_factory=OpenGate)


class HotRoutes:
    """The routes that no framework sees."""

    def __init__(self, deps: HttpDeps) -> None:
        """Lay the table."""
        self._deps = deps
        self._waits: set[asyncio.Task[bytes]] = set()
        features = FeatureRoutes(deps.features)
        self._exact: dict[bytes, Route] = {}
        self._under: list[Route] = []
        for route in (
            Route(
                "/v1/decisions",
                self._decide,
                EVENT_MAX_BYTES,
                begin=self._begin_decide,
                check=deps.coalescer.check,
            ),
            Route("/v1/decisions:batch", self._decide_batch, BATCH_MAX_BYTES, patient=True),
            Route("/v1/events", self._take_events, BATCH_MAX_BYTES, patient=True),
            Route("/v1/labels", self._take_labels, BATCH_MAX_BYTES, patient=True),
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

    def observe(self, route: Route | None, status: int, began: float) -> None:
        """Count an answer, and the time since its head was read; without a route, a refusal."""
        metrics = self._deps.metrics
        if route is None:
            metrics.requests.labels("none", str(status)).inc()
            return
        metrics.requests.labels(route.name, str(status)).inc()
        if status == 500:
            return
        if route.name.startswith(DECISIONS_PATH):
            metrics.decision_seconds.labels("http").observe(time.perf_counter() - began)
        elif route.name.startswith(FEATURES_PATH):
            metrics.features_seconds.labels(route.name).observe(time.perf_counter() - began)

    def echo(self, head: Head) -> Mapping[str, str]:
        """Return the gate's headers for an answer."""
        return self._deps.gate.echo(head)

    def admit(self, route: Route, head: Head, began: float) -> Admitted:
        """Let a request in: by state, method, gate, deadline and load, in this order.

        Raises:
            Exception: One of `api/errors.py`'s table.
        """
        if not self._deps.ready():
            raise Draining("this process is stopping or not ready")
        check_method(route, head)
        principal = self._deps.gate.admit(head)
        longest_s = self._deps.list_deadline_s if route.patient else self._deps.deadline_s
        deadline_at = deadline_of(head.headers, began, longest_s)
        if route.check is not None:
            route.check(deadline_at)
        return Admitted(principal, deadline_at)

    def _question(self, request: Request) -> Question:
        key = request.head.headers.get(b"idempotency-key")
        return self._deps.intake.question(
            request.body, None if key is None else key.decode("latin-1")
        )

    def _begin_decide(self, request: Request, reply: Reply) -> Begun:
        question = self._question(request)

        def done(answer: bytes | Exception) -> None:
            if isinstance(answer, bytes):
                reply(Answer(200, answer, JSON))
            elif isinstance(answer, InProgress):
                waiting = asyncio.ensure_future(self._await_other(question, request.deadline_at))
                self._waits.add(waiting)
                waiting.add_done_callback(partial(self._heard, reply))
            else:
                reply(answer)

        return self._deps.coalescer.submit(question, request.deadline_at, done)

    def _heard(self, reply: Reply, waiting: asyncio.Task[bytes]) -> None:
        """Pass on what another asker's answer is, or why it cannot be had."""
        self._waits.discard(waiting)
        if not waiting.cancelled():
            error = waiting.exception()
            assert error is None or isinstance(error, Exception)
            reply(error or Answer(200, waiting.result(), JSON))

    async def _decide(self, request: Request) -> Answer:
        question = self._question(request)
        try:
            answer = await self._deps.coalescer.ask(question, request.deadline_at)
        except InProgress:
            answer = await self._await_other(question, request.deadline_at)
        return Answer(200, answer, JSON)

    async def _decide_batch(self, request: Request) -> Answer:
        questions = self._deps.intake.questions(request.body)
        deadline_at = request.deadline_at
        answers = await self._deps.coalescer.ask_list(questions, deadline_at)
        for index, answer in enumerate(answers):
            if isinstance(answer, InProgress):
                try:
                    answers[index] = await self._await_other(questions[index], deadline_at)
                except Exception as error:  # the top of this question
                    answers[index] = error
        bodies = [a if isinstance(a, bytes) else problem_of(a).body for a in answers]
        return Answer(200, b'{"decisions":[' + b",".join(bodies) + b"]}", JSON)

    async def _await_other(self, question: Question, deadline_at: float) -> bytes:
        """Return the answer that another asker is getting.

        Raises:
            InProgress: It was not there by the deadline.
            IdempotencyConflict: It is one to another body.
        """
        while time.perf_counter() + LOOK_AGAIN_S < deadline_at:
            await asyncio.sleep(LOOK_AGAIN_S)
            answer = await self._deps.answerer.look_up(question.claim)
            if answer is not None:
                return answer
        raise InProgress("the same event is being decided right now")

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
