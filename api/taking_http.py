"""Events and labels that are taken over HTTP, for others to work on: one, an array, or lines."""

from collections.abc import Sequence

from api.errors import Answer
from api.intake import BATCH_MAX_BYTES, Caller, Intake, is_list
from api.ndjson import is_ndjson
from api.publish import Outgoing, SpoolingPublisher
from api.route import JSON, Gate, Request, Route
from features.cloud_event import http_attributes
from features.event import decision_id, entity_key, identity_of
from features.spec import Spec
from features.topics import Topics
from features.trace import trace_of


def caller_of(request: Request) -> Caller:
    """Return what a request says of all its items."""
    headers = request.head.headers
    cloud = http_attributes(headers)
    return Caller(request.principal.tenant, trace_of(headers), is_ndjson(headers), cloud)


class TakingRoutes:
    """The two routes.

    Attributes:
        events: `POST /v1/events`; the stream door decides them.
        labels: `POST /v1/labels`; the learner joins them with their decisions.
    """

    def __init__(
        self, spec: Spec, topics: Topics, intake: Intake, publisher: SpoolingPublisher, gate: Gate
    ) -> None:
        """Take the log, and the rules of what goes there."""
        self._types = spec.event_rules.event_types
        self._topics = topics
        self._intake = intake
        self._publisher = publisher
        self._gate = gate
        self.events = Route("/v1/events", self._take_events, BATCH_MAX_BYTES)
        self.labels = Route("/v1/labels", self._take_labels, BATCH_MAX_BYTES)

    async def _take_events(self, request: Request) -> Answer:
        caller = caller_of(request)
        taken = self._intake.events(request.body, caller)
        records: list[Outgoing] = []
        for event, body in taken:
            primary = self._types[event.event_type].primary
            key = entity_key(event.tenant, primary, event.entities[primary])
            records.append(Outgoing(self._topics.events, key, body, caller.trace))
        await self._publish(request, records)
        if caller.lines or is_list(request.body):
            return _accepted(len(taken))
        name = decision_id(identity_of(taken[0][0])).encode()
        return Answer(202, b'{"accepted":1,"decision_id":"%s"}' % name, JSON)

    async def _take_labels(self, request: Request) -> Answer:
        caller = caller_of(request)
        taken = self._intake.labels(request.body, caller)
        topic = self._topics.labels
        await self._publish(
            request,
            [Outgoing(topic, identity_of(one).encode(), body, caller.trace) for one, body in taken],
        )
        return _accepted(len(taken))

    async def _publish(self, request: Request, records: Sequence[Outgoing]) -> None:
        self._gate.weigh(request.principal, request.head, len(records))
        await self._publisher.publish_many(records)


def _accepted(count: int) -> Answer:
    return Answer(202, b'{"accepted":%d}' % count, JSON)
