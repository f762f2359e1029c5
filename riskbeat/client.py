"""A client of riskbeat's HTTP door: decide events, send labels, ask for features.

    from riskbeat.client import Client

    with Client("http://127.0.0.1:8000") as client:
        decision = client.decide(event)
        card = client.features("card", "tok_9")

`AsyncClient` is the same with `await`. Neither loads torch, numba or faust. With `retries` a call
that may be taken later is sent again, after the wait that was asked for: an event sent again gets
its first answer, and of equal labels one counts.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, Self, TypeVar

import httpx

from features.entity_features import EntityFeatures, FeatureNote, FeatureQuestion
from features.event import DEFAULT_TENANT, Amount, Event, Label
from models.decision import Decision
from riskbeat.client_calls import (
    Call,
    FieldFault,
    Problem,
    RequestRefused,
    RiskbeatError,
    ServiceFailed,
    ServiceUnavailable,
    call_decide,
    call_decide_many,
    call_decision,
    call_dry_run,
    call_features,
    call_labels,
    call_many_features,
    headers_of,
    no_answer,
    pause_s,
    read_answer,
)

TIMEOUT_S: Final = 5.0
RETRIES_MAX: Final = 10

__all__ = [
    "Amount",
    "AsyncClient",
    "Client",
    "Decision",
    "EntityFeatures",
    "Event",
    "FeatureNote",
    "FeatureQuestion",
    "FieldFault",
    "Label",
    "Problem",
    "RequestRefused",
    "RiskbeatError",
    "ServiceFailed",
    "ServiceUnavailable",
]

T = TypeVar("T")
LabelName = Literal["fraud", "legit"]
LabelSource = Literal["chargeback", "manual_review", "customer", "issuer", "rule"]


class Client:
    """Asks one riskbeat. Safe to share between threads; every method raises `RiskbeatError`."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        key: str | None = None,
        retries: int = 0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Take the address; nothing is connected before the first request.

        Args:
            url: As in `http://127.0.0.1:8000`.
            timeout_s: Longest wait for a connection, and for each part of an answer.
            key: An API key (`riskbeat keys create`), where the service asks for one.
            retries: How often a call is sent again that may be taken later (429, 503, 409, no
                answer), at most `RETRIES_MAX`.
            headers: Sent with every request, for what stands in front of riskbeat.
            transport: Of httpx, for proxies, certificates of one's own, or tests.
        """
        self._http = httpx.Client(
            base_url=url, timeout=timeout_s, headers=headers_of(key, headers), transport=transport
        )
        self._retries = min(retries, RETRIES_MAX)

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def features(
        self,
        entity: str,
        id: str | Sequence[str],
        at: datetime | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        explain: bool = False,
    ) -> EntityFeatures:
        """Return what is known of an entity at an instant.

        Args:
            entity: A name that the feature spec declares.
            id: Its id; of a composite key the ids, in the order of the key.
            at: With an offset; None means now.
            tenant: Whose entity.
            explain: Whether the answer says what its values mean.
        """
        return self._ask(call_features(entity, id, at, tenant, explain))

    def features_many(
        self, questions: Sequence[FeatureQuestion], *, explain: bool = False
    ) -> list[EntityFeatures]:
        """Answer up to 100 questions in one round trip, in order; all or none."""
        return self._ask(call_many_features(questions, explain))

    def decide(
        self, event: Event | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Decision:
        """Score, decide and record one event. The same event again gets the same answer."""
        return self._ask(call_decide(event, idempotency_key))

    def decide_many(self, events: Sequence[Event | Mapping[str, Any]]) -> list[Decision | Problem]:
        """Decide up to 1000 events, in order; of one that is at fault returns its problem."""
        return self._ask(call_decide_many(events))

    def dry_run(self, event: Event | Mapping[str, Any]) -> Decision:
        """Say what would be decided, and why; nothing is recorded and nothing changes."""
        return self._ask(call_dry_run(event))

    def decision(self, decision_id: str) -> Decision:
        """Return a decision as it was recorded; unknown ones are `RequestRefused` (404)."""
        return self._ask(call_decision(decision_id))

    def label(
        self,
        event_id: str,
        label: LabelName,
        *,
        event_type: str,
        source: LabelSource,
        label_time: datetime | None = None,
        state: Literal["confirmed", "suspected", "reversed"] = "confirmed",
        reason_code: str | None = None,
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Tell what became of an event; `label_time` None means that it is known from now on."""
        one = Label(
            event_type=event_type,
            event_id=event_id,
            label=label,
            source=source,
            label_time=label_time or datetime.now(UTC),
            state=state,
            reason_code=reason_code,
            tenant=tenant,
        )
        self.labels([one])

    def labels(self, labels: Sequence[Label]) -> int:
        """Tell what became of up to 1000 events, all or none; return how many were taken."""
        return self._ask(call_labels(labels))

    def _ask(self, call: Call[T]) -> T:
        for tried in range(self._retries):
            try:
                return self._ask_once(call)
            except ServiceUnavailable as error:
                time.sleep(pause_s(tried, error))
        return self._ask_once(call)

    def _ask_once(self, call: Call[T]) -> T:
        try:
            response = self._http.send(_request(self._http, call))
        except httpx.TransportError as error:
            raise no_answer(error) from error
        return read_answer(call, response)


class AsyncClient:
    """Asks one riskbeat from an event loop; as `Client`, which has the words."""

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        key: str | None = None,
        retries: int = 0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Take the address; nothing is connected before the first request."""
        self._http = httpx.AsyncClient(
            base_url=url, timeout=timeout_s, headers=headers_of(key, headers), transport=transport
        )
        self._retries = min(retries, RETRIES_MAX)

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def features(
        self,
        entity: str,
        id: str | Sequence[str],
        at: datetime | None = None,
        *,
        tenant: str = DEFAULT_TENANT,
        explain: bool = False,
    ) -> EntityFeatures:
        """Return what is known of an entity at an instant."""
        return await self._ask(call_features(entity, id, at, tenant, explain))

    async def features_many(
        self, questions: Sequence[FeatureQuestion], *, explain: bool = False
    ) -> list[EntityFeatures]:
        """Answer up to 100 questions in one round trip, in order; all or none."""
        return await self._ask(call_many_features(questions, explain))

    async def decide(
        self, event: Event | Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> Decision:
        """Score, decide and record one event. The same event again gets the same answer."""
        return await self._ask(call_decide(event, idempotency_key))

    async def decide_many(
        self, events: Sequence[Event | Mapping[str, Any]]
    ) -> list[Decision | Problem]:
        """Decide up to 1000 events, in order; of one that is at fault returns its problem."""
        return await self._ask(call_decide_many(events))

    async def dry_run(self, event: Event | Mapping[str, Any]) -> Decision:
        """Say what would be decided, and why; nothing is recorded and nothing changes."""
        return await self._ask(call_dry_run(event))

    async def decision(self, decision_id: str) -> Decision:
        """Return a decision as it was recorded; unknown ones are `RequestRefused` (404)."""
        return await self._ask(call_decision(decision_id))

    async def labels(self, labels: Sequence[Label]) -> int:
        """Tell what became of up to 1000 events, all or none; return how many were taken."""
        return await self._ask(call_labels(labels))

    async def _ask(self, call: Call[T]) -> T:
        for tried in range(self._retries):
            try:
                return await self._ask_once(call)
            except ServiceUnavailable as error:
                await asyncio.sleep(pause_s(tried, error))
        return await self._ask_once(call)

    async def _ask_once(self, call: Call[T]) -> T:
        try:
            response = await self._http.send(_request(self._http, call))
        except httpx.TransportError as error:
            raise no_answer(error) from error
        return read_answer(call, response)


def _request(http: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
    headers = dict(call.headers or {})
    if call.body is not None:
        headers.setdefault("content-type", "application/json")
    return http.build_request(
        call.method, call.path, params=call.query or None, content=call.body, headers=headers
    )
