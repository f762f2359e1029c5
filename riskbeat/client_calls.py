"""What a client asks, as requests; and its answers, as values or as errors that say why."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from features.entity_features import EntityFeatures, FeatureQuestion
from features.event import DEFAULT_TENANT, Event, Label
from models.decision import Decision

PROBLEM_TYPE: Final = "application/problem+json"
NDJSON_TYPE: Final = "application/x-ndjson"
PAUSE_FIRST_S: Final = 0.05
PAUSE_LIMIT_S: Final = 10.0
"""A longer wait that is asked for is the caller's to make."""
DETAIL_MAX_CHARS: Final = 500

T = TypeVar("T")


class FieldFault(msgspec.Struct, frozen=True):
    """One field at fault: where (JSON pointer), what (a sentence), which kind (closed set)."""

    pointer: str = ""
    detail: str = ""
    code: str = ""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A problem document (RFC 9457); of an answer that has none, what could be told.

    Attributes:
        type: `urn:riskbeat:problem:` and a code of a closed set.
        status: Of the answer; 0 when there was none.
    """

    type: str = "about:blank"
    title: str = ""
    status: int = 0
    detail: str = ""
    errors: list[FieldFault] = []


class RiskbeatError(Exception):
    """Base of what a client raises; carries the problem document."""

    def __init__(self, problem: Problem) -> None:
        """Keep the document, and say it in a line."""
        faults = "; ".join(f"{fault.pointer or '/'}: {fault.detail}" for fault in problem.errors)
        said = faults or problem.detail
        super().__init__(f"{problem.status or 'no answer'}: {problem.title}: {said}".rstrip(": "))
        self.problem = problem


class RequestRefused(RiskbeatError):
    """4xx: the request cannot be taken as it is; the same again is refused again."""


class ServiceUnavailable(RiskbeatError):
    """429, 503, 409 or no answer at all: the same request may be taken later.

    A decision may have been made; the same event again gets its answer.

    Attributes:
        retry_after_s: How long the service asks to wait; None when it did not answer.
    """

    def __init__(self, problem: Problem, retry_after_s: float | None = None) -> None:
        """Keep the document, and the wait that was asked for."""
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class ServiceFailed(RiskbeatError):
    """5xx, or an answer that is none of riskbeat's: something is wrong there, or in between."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[bytes], T]
    query: Mapping[str, str] | None = None
    body: bytes | None = None
    headers: Mapping[str, str] | None = None


class _Many(msgspec.Struct):
    features: list[EntityFeatures]


class _Taken(msgspec.Struct):
    accepted: int


_LATER = (409, 429, 503)
_problems = msgspec.json.Decoder(Problem)
_features = msgspec.json.Decoder(EntityFeatures)
_many_features = msgspec.json.Decoder(_Many)
_decisions = msgspec.json.Decoder(Decision)
_taken = msgspec.json.Decoder(_Taken)


def call_features(
    entity: str, id: str | Sequence[str], at: datetime | None, tenant: str, explain: bool
) -> Call[EntityFeatures]:
    """Return the request for one entity's features.

    Raises:
        ValueError: `at` has no offset, or there is no id.
    """
    ids = [id] if isinstance(id, str) else list(id)
    if not ids:
        raise ValueError("id: expected at least one")
    path = "/".join(_quoted(part) for part in ("v1", "features", entity, *ids))
    query = {} if at is None else {"at": _instant(at, "at")}
    query |= {} if tenant == DEFAULT_TENANT else {"tenant": tenant}
    query |= {"explain": "true"} if explain else {}
    return Call("GET", f"/{path}", _features.decode, query)


def call_many_features(
    questions: Sequence[FeatureQuestion], explain: bool
) -> Call[list[EntityFeatures]]:
    """Return the request for many entities' features."""
    return Call(
        "POST",
        "/v1/features:batch",
        lambda body: _many_features.decode(body).features,
        {"explain": "true"} if explain else {},
        msgspec.json.encode(list(questions)),
    )


def call_decide(event: Event | Mapping[str, Any], idempotency_key: str | None) -> Call[Decision]:
    """Return the request for a decision."""
    key = {} if idempotency_key is None else {"idempotency-key": idempotency_key}
    body = msgspec.json.encode(event)
    return Call("POST", "/v1/decisions", _decisions.decode, body=body, headers=key)


def call_dry_run(event: Event | Mapping[str, Any]) -> Call[Decision]:
    """Return the request for what would be decided."""
    body = msgspec.json.encode(event)
    return Call("POST", "/v1/decisions:dry-run", _decisions.decode, body=body)


def call_decision(decision_id: str) -> Call[Decision]:
    """Return the request for a decision that was recorded."""
    return Call("GET", f"/v1/decisions/{_quoted(decision_id)}", _decisions.decode)


def call_decide_many(
    events: Sequence[Event | Mapping[str, Any]],
) -> Call[list[Decision | Problem]]:
    """Return the request for decisions, in order; of one at fault its problem."""
    return Call(
        "POST",
        "/v1/decisions:batch",
        _read_lines,
        body=b"".join(msgspec.json.encode(event) + b"\n" for event in events),
        headers={"content-type": NDJSON_TYPE},
    )


def _read_lines(body: bytes) -> list[Decision | Problem]:
    return [
        _problems.decode(line) if b'"type":"urn:' in line[:32] else _decisions.decode(line)
        for line in body.splitlines()
    ]


def call_labels(labels: Sequence[Label]) -> Call[int]:
    """Return the request that tells what became of events; the answer is how many were taken."""
    body = msgspec.json.encode(list(labels))
    return Call("POST", "/v1/labels", lambda answer: _taken.decode(answer).accepted, body=body)


def read_answer(call: Call[T], response: httpx.Response) -> T:
    """Return what an answer says.

    Raises:
        RequestRefused: 4xx.
        ServiceUnavailable: It asks to come back later.
        ServiceFailed: 5xx, or an answer that cannot be read.
    """
    if response.is_success:
        try:
            return call.read(response.content)
        except msgspec.MsgspecError as error:
            title = "The answer cannot be read"
            problem = Problem(title=title, status=response.status_code, detail=str(error))
            raise ServiceFailed(problem) from error
    problem = _problem_of(response)
    if response.status_code in _LATER:
        raise ServiceUnavailable(problem, _wait_of(response))
    if response.is_client_error:
        raise RequestRefused(problem)
    raise ServiceFailed(problem)


def headers_of(key: str | None, more: Mapping[str, str] | None) -> dict[str, str]:
    """Return what goes with every request: the API key, and what the caller adds."""
    return ({} if key is None else {"authorization": f"Bearer {key}"}) | dict(more or {})


def pause_s(tried: int, error: ServiceUnavailable) -> float:
    """Return how long to wait; raise the error if longer is asked for than a call may take."""
    if error.retry_after_s is None:
        return float(PAUSE_FIRST_S * 2**tried)
    if error.retry_after_s > PAUSE_LIMIT_S:
        raise error
    return error.retry_after_s


def no_answer(error: httpx.TransportError) -> ServiceUnavailable:
    """Return what is raised when nothing answered in time."""
    title = "No answer in time" if isinstance(error, httpx.TimeoutException) else "No connection"
    return ServiceUnavailable(Problem(title=title, detail=str(error) or type(error).__name__))


def _problem_of(response: httpx.Response) -> Problem:
    if response.headers.get("content-type", "").startswith(PROBLEM_TYPE):
        try:
            return _problems.decode(response.content)
        except msgspec.MsgspecError:
            pass  # then it is somebody else's, like a proxy's page
    text = response.text[:DETAIL_MAX_CHARS]
    return Problem(title=response.reason_phrase, status=response.status_code, detail=text)


def _wait_of(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def _quoted(part: str) -> str:
    """Return a path segment; one that is all dots would be taken for a place in the path."""
    return part.replace(".", "%2E") if part in (".", "..") else quote(part, safe="")


def _instant(at: datetime, name: str) -> str:
    if at.tzinfo is None:
        raise ValueError(f"{name}: expected an instant with an offset, as in datetime.now(UTC)")
    return at.astimezone(UTC).isoformat()
