"""requests → answers of the hot routes, whichever face of the HTTP door they come by.

The faces (`api/decide_http.py` for ASGI, `api/door_http.py` on the socket) find the route, ask the
gate, read the body within its limit and send what is answered here.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from api.admin_http import AdminDeps
from api.answer import Answerer, Question
from api.asking_http import AskingRoutes
from api.coalesce import Coalescer
from api.deadline import deadline_of
from api.dry_run import DryRuns
from api.errors import Answer, Draining, InProgress, MethodNotAllowed, problem_of
from api.features import FeatureDesk
from api.features_http import FeatureRoutes
from api.intake import BATCH_MAX_BYTES, Intake
from api.lookup import LookupDesk
from api.metrics import ServeMetrics
from api.ndjson import answer_lines
from api.publish import SpoolingPublisher
from api.route import JSON, Admitted, Begun, Gate, Head, OpenGate, Reply, Request, Route
from api.taking_http import TakingRoutes, caller_of
from features.event import EVENT_MAX_BYTES
from features.spec import Spec
from features.topics import Topics
from features.trace import Tracer

LOOK_AGAIN_S = 0.01
DECIDING = ("/v1/decisions", "/v1/decisions:batch")
FEATURES_PATH = "/v1/features"


@dataclass(frozen=True, slots=True)
class HttpDeps:
    """What the HTTP door needs; `riskbeat/` puts it together.

    Attributes:
        deadline_s: Longest wait for an answer; a request may ask for less.
        list_deadline_s: The same for a list of questions.
        ready: Whether requests are taken now.
        gate: Who is let in.
        tracer: Takes spans; none where nothing is traced.
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
    dry_runs: DryRuns
    lookups: LookupDesk
    gate: Gate = field(default_factory=OpenGate)
    tracer: Tracer | None = None


class HotRoutes:
    """The routes that no framework sees."""

    def __init__(self, deps: HttpDeps) -> None:
        """Lay the table."""
        self._deps = deps
        self._waits: set[asyncio.Task[bytes]] = set()
        features = FeatureRoutes(deps.features, deps.gate)
        taking = TakingRoutes(deps.spec, deps.topics, deps.intake, deps.publisher, deps.gate)
        asking = AskingRoutes(deps.intake, deps.dry_runs, deps.lookups)
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

    def observe(self, route: Route | None, answer: Answer, began: float) -> None:
        """Count an answer, and the time since its head was read; without a route, a refusal."""
        status, trace_id = answer.status, answer.trace_id
        metrics = self._deps.metrics
        if route is None:
            metrics.requests.labels("none", str(status)).inc()
            return
        metrics.requests.labels(route.name, str(status)).inc()
        if status == 500:
            return
        if route.name in DECIDING:
            example = {"trace_id": trace_id} if trace_id else None
            metrics.decision_seconds.labels("http").observe(time.perf_counter() - began, example)
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
        question = self._deps.intake.question(
            request.body, None if key is None else key.decode("latin-1"), caller_of(request)
        )
        return question if self._deps.tracer is None else begin(self._deps.tracer, question)

    def _begin_decide(self, request: Request, reply: Reply) -> Begun:
        question = self._question(request)
        trace_id = _trace_id_of(question)

        def done(answer: bytes | Exception) -> None:
            if isinstance(answer, bytes):
                reply(Answer(200, answer, JSON, trace_id))
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
        return Answer(200, answer, JSON, _trace_id_of(question))

    async def _decide_batch(self, request: Request) -> Answer:
        """Decide an array, all or none; of lines each by itself, and each is answered by one."""
        caller = caller_of(request)
        read: Sequence[Question | Exception]
        if caller.lines:
            read = self._deps.intake.question_lines(request.body, caller)
        else:
            read = self._deps.intake.questions(request.body, caller)
        tracer = self._deps.tracer
        if tracer is not None:
            read = [begin(tracer, one) if isinstance(one, Question) else one for one in read]
        self._deps.gate.weigh(request.principal, request.head, len(read))
        bodies = await self._answer_list(read, request.deadline_at)
        if caller.lines:
            return answer_lines(bodies)
        return Answer(200, b'{"decisions":[' + b",".join(bodies) + b"]}", JSON)

    async def _answer_list(
        self, read: Sequence[Question | Exception], deadline_at: float
    ) -> list[bytes]:
        """Return a body for each: its answer, or what is wrong with it."""
        questions = [one for one in read if isinstance(one, Question)]
        answers = await self._deps.coalescer.ask_list(questions, deadline_at) if questions else []
        for index, answer in enumerate(answers):
            if isinstance(answer, InProgress):
                try:
                    answers[index] = await self._await_other(questions[index], deadline_at)
                except Exception as error:  # the top of this question
                    answers[index] = error
        found = iter(answers)
        every = [next(found) if isinstance(one, Question) else one for one in read]
        return [one if isinstance(one, bytes) else problem_of(one).body for one in every]

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


def _trace_id_of(question: Question) -> str:
    return "" if question.begun is None else question.begun.trace_id


def begin(tracer: Tracer, question: Question) -> Question:
    """Return a question with its span, if it is to be traced."""
    begun = tracer.begin(question.trace)
    return question if begun is None else question._replace(begun=begun)


def check_method(route: Route, head: Head) -> None:
    """Hold a request's method against the one of its route.

    Raises:
        MethodNotAllowed: Another one is taken.
    """
    asked = "GET" if head.method == "HEAD" else head.method
    if asked != route.method:
        allowed = "GET, HEAD" if route.method == "GET" else route.method
        raise MethodNotAllowed(head.method, allowed)
