"""questions → answers over HTTP: claim, decide, record, answer; each question once.

1 claim (with the features, in one round trip's time) · 2 decide · 3 record event and decision ·
4 keep the answer · 5 answer. A crash before 3 leaves a claim that expires; after 3 the record in
the log stands, and of several for one event the lowest offset counts.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from api.breaker import Breakers, breakers_of
from api.claims import Claim, Claimed, Claims, ClaimsUnavailable
from api.decide import Decider
from api.errors import IdempotencyConflict, InProgress, NotRecorded
from api.overlay_place import Place
from api.publish import UNKNOWN_POSITION, Outgoing, Position, SpoolingPublisher
from api.seen import Asked, Seen
from api.trace import trace_decided
from features.event import Event, entity_key, identity_of
from features.spec import Spec
from features.topics import Topics
from features.trace import NO_TRACE, Headers, OpenSpan, Tracer
from models.decision import DecisionRecord, Source
from models.decision_cloud import Stamp
from models.decision_codec import answer_in, encode_record, repeat_of

FAILURES_MAX, PAUSE_S, MODEL_TIMEOUT_S = 5, 0.5, 0.025
"""Of the breakers, where none are given."""

DECIDED_HEADER = ("riskbeat-decided", b"http")
"""On an event: its decision is recorded already; the stream door leaves it alone."""


class Question(NamedTuple):
    """One event to decide over HTTP.

    Attributes:
        body: The event's JSON, as it goes to the log.
        claim: Its decision id and body hash.
        key_claim: The caller's `Idempotency-Key`, if one came, with the same hash.
        trace: Headers for its records, as the caller sent them.
        begun: Its span, if it is traced; then that one's headers are for its records.
    """

    event: Event
    body: bytes
    claim: Claim
    key_claim: Claim | None = None
    trace: Headers = NO_TRACE
    begun: OpenSpan | None = None

    @property
    def headers(self) -> Headers:
        """The trace context of its records."""
        return self.trace if self.begun is None else self.begun.headers


class Told(NamedTuple):
    """Who hears of what happened, for the metrics."""

    decided: Callable[[Sequence[DecisionRecord], float], None]
    repeated: Callable[[str], None]


class Answerer:
    """The step behind `POST /v1/decisions`."""

    def __init__(
        self,
        spec: Spec,
        topics: Topics,
        decider: Decider,
        claims: Claims,
        publisher: SpoolingPublisher,
        features_timeout_s: float,
        told: Told,
        breakers: Breakers | None = None,
        stamp: Stamp | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Take the ports, the longest wait for the features (seconds), and who may be asked.

        With a stamp decisions go to the log as CloudEvents.
        """
        self._primary = {name: kind.primary for name, kind in spec.event_rules.event_types.items()}
        self._topics = topics
        self._decider = decider
        self._claims = claims
        self._publisher = publisher
        self._features_timeout_s = features_timeout_s
        self._told = told
        self._stamp = stamp
        self._breakers = breakers or breakers_of(FAILURES_MAX, PAUSE_S, MODEL_TIMEOUT_S)
        self._tracer = tracer
        self._keeping: set[asyncio.Task[None]] = set()

    async def answer_many(self, questions: Sequence[Question]) -> list[bytes | Exception]:
        """Answer a batch, in order: the body of an answer, or what is wrong with the question.

        Within the batch a repeat gets the answer of the first.
        """
        firsts: dict[str, int] = {}
        for index, question in enumerate(questions):
            firsts.setdefault(question.claim.name, index)
        answers = dict(
            zip(
                firsts,
                await self._answer_distinct([questions[i] for i in firsts.values()]),
                strict=True,
            )
        )
        out: list[bytes | Exception] = []
        for index, question in enumerate(questions):
            answer = answers[question.claim.name]
            first = questions[firsts[question.claim.name]]
            if firsts[question.claim.name] != index and isinstance(answer, bytes):
                answer = self._repeat(first.claim, question.claim, answer)
            out.append(answer)
        return out

    async def look_up(self, claim: Claim) -> bytes | None:
        """Return the answer to a question that somebody else was answering; None: not yet.

        Raises:
            IdempotencyConflict: It was asked with another body.
            InProgress: The claim had expired; the caller should ask again.
        """
        try:
            [claimed] = await self._claims.take_many([claim])
        except ClaimsUnavailable:
            return None
        if claimed.state == "new":
            await self._release([claim])
            raise InProgress("its first asker went away; ask again")
        answer = self._judge(claimed)
        if isinstance(answer, InProgress):
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _answer_distinct(self, questions: Sequence[Question]) -> list[bytes | Exception]:
        claimed, seen = await asyncio.gather(
            self._claim(questions),
            self._decider.look(
                [q.event for q in questions], self._features_timeout_s, self._breakers.features
            ),
        )
        answers: dict[int, bytes | Exception] = {}
        fresh: list[int] = []
        for index in range(len(questions)):
            answer = self._judge(claimed[index]) if claimed is not None else None
            if answer is None:
                fresh.append(index)
            else:
                answers[index] = answer
        if fresh:
            mine = [questions[index] for index in fresh]
            if len(fresh) < len(questions):
                seen = seen.only(fresh)
            for index, answer in zip(
                fresh, await self._answer_new(mine, seen, claimed is not None), strict=True
            ):
                answers[index] = answer
        return [answers[index] for index in range(len(questions))]

    async def _answer_new(
        self, questions: Sequence[Question], seen: Seen, claimed: bool
    ) -> list[bytes | Exception]:
        """Decide, record, keep and return the answers to questions that are ours."""
        source = Source(door="http", topic=self._topics.events)
        asked = [Asked(q.event, source) for q in questions]
        records = self._decider.decide(asked, seen, claimed, self._breakers)
        encoded = [encode_record(record) for record in records]
        try:
            positions = await self._publisher.publish_many(
                self.outgoing_of(questions, records, encoded)
            )
        except NotRecorded as error:
            for question in questions:
                self._decider.overlay.forget(identity_of(question.event))
            await self._release([question.claim for question in questions])
            return [error] * len(questions)
        if claimed:  # else one may be a repeat, whose first copy stands elsewhere in the log
            self._place(questions, positions)
        bodies = [answer_in(data) for data in encoded]
        if claimed:
            self._keep([q.claim for q in questions], bodies)
        self._told.decided(records, records[0].timings_ms.total / 1000)
        if self._tracer is not None:
            trace_decided(self._tracer, [q.begun for q in questions], records, "http")
        return list(bodies)

    def outgoing_of(
        self,
        questions: Sequence[Question],
        records: Sequence[DecisionRecord],
        encoded: Sequence[bytes],
    ) -> list[Outgoing]:
        """Return what goes to the log: the events in order, then their decisions."""
        topic, plain, outgoing = self._topics.events, (DECIDED_HEADER,), list[Outgoing]()
        for question in questions:
            event = question.event
            primary = self._primary[event.event_type]
            key = entity_key(event.tenant, primary, event.entities[primary])
            trace = question.headers
            headers = (DECIDED_HEADER, *trace) if trace else plain
            outgoing.append(Outgoing(topic, key, question.body, headers))
        topic = self._topics.decisions
        for question, record, data in zip(questions, records, encoded, strict=True):
            headers = question.headers
            if self._stamp is not None:
                headers = (*self._stamp.headers_of(record), *headers)
            outgoing.append(Outgoing(topic, record.decision_id.encode(), data, headers))
        return outgoing

    def _place(self, questions: Sequence[Question], positions: Sequence[Position]) -> None:
        for question, position in zip(questions, positions, strict=False):
            if position != UNKNOWN_POSITION:
                self._decider.overlay.place(
                    identity_of(question.event), Place(position.partition, position.offset)
                )

    async def _claim(self, questions: Sequence[Question]) -> list[Claimed] | None:
        """Take the claims; None when their store does not answer, or is left alone."""
        breaker = self._breakers.claims
        if not breaker.allows():
            return None
        keyed = [(i, q.key_claim) for i, q in enumerate(questions) if q.key_claim is not None]
        wanted = [q.claim for q in questions] + [claim for _, claim in keyed]
        try:
            taken = await self._claims.take_many(wanted)
        except ClaimsUnavailable:
            breaker.failed("unavailable")
            return None
        breaker.succeeded()
        claimed = taken[: len(questions)]
        fresh_keys = [
            claim
            for (_, claim), key in zip(keyed, taken[len(questions) :], strict=True)
            if key.state == "new"
        ]
        if fresh_keys:  # a key names a body, it holds no answer; keep it for the whole window
            await self._finish(fresh_keys, [b""] * len(fresh_keys))
        for (index, _), key in zip(keyed, taken[len(questions) :], strict=True):
            if key.state == "other_body":
                if claimed[index].state == "new":
                    await self._release([questions[index].claim])
                claimed[index] = key
        return claimed

    def _judge(self, claimed: Claimed) -> bytes | Exception | None:
        """Return what a claim's state answers by itself; None if the question is ours."""
        if claimed.state == "new":
            return None
        if claimed.state == "done":
            self._told.repeated("duplicate")
            return repeat_of(claimed.answer)
        if claimed.state == "other_body":
            self._told.repeated("conflict")
            return IdempotencyConflict("this event or key was sent before with another body")
        return InProgress("the same event is being decided right now")

    def _repeat(self, first: Claim, repeat: Claim, answer: bytes) -> bytes | Exception:
        if first.body_hash != repeat.body_hash:
            return self._judge(Claimed("other_body")) or answer
        self._told.repeated("duplicate")
        return repeat_of(answer)

    def _keep(self, claims: Sequence[Claim], answers: Sequence[bytes]) -> None:
        """Keep the answers without letting their askers wait for it.

        It is sent before any repeat that the answer could cause: a repeat sees the claim taken
        until the answer is there, and waits for it.
        """
        task = asyncio.ensure_future(self._finish(claims, answers))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def close(self) -> None:
        """Return when every answer is kept, or was given up."""
        if self._keeping:
            await asyncio.wait(self._keeping)

    async def _finish(self, claims: Sequence[Claim], answers: Sequence[bytes]) -> None:
        try:
            await self._claims.finish_many(list(zip(claims, answers, strict=True)))
        except ClaimsUnavailable:
            return  # the claim expires; a repeat is decided again, and the log's first one counts

    async def _release(self, claims: Sequence[Claim]) -> None:
        try:
            await self._claims.release_many(claims)
        except ClaimsUnavailable:
            return  # they expire
