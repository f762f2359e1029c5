"""exception → status and problem: the one table that knows HTTP's numbers (RFC 9457)."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from api.keys import KeyRefused, KeysUnavailable, ScopeMissing
from api.limits import RateLimited
from features.entity_features import QuestionRejected
from features.event import EventRejected
from features.store import StoreUnavailable
from models.audit import AuditUnavailable
from models.registry import NoWeights, RegistryUnavailable

PROBLEM_TYPE = "application/problem+json"
RETRY_AFTER_S = 1


class Overloaded(RuntimeError):
    """More is waiting than can be answered in time; come again."""


class DeadlineMissed(RuntimeError):
    """No answer was made by the deadline; what was decided for it is recorded, and can be had."""


class Draining(RuntimeError):
    """The process is stopping, or has not started; another one answers."""


class IdempotencyConflict(ValueError):
    """The same event, or the same key, came before with another body."""


class InProgress(RuntimeError):
    """The same event is being decided right now and was not done in time."""


class NotRecorded(RuntimeError):
    """Neither the log nor the spool could take the decision, so it was not made."""


class BodyTooLarge(ValueError):
    """The body exceeds the limit of its route; it was not read to the end."""


class NoSuchDecision(LookupError):
    """No decision of that id was recorded within the horizon, or not for this caller's eyes."""


class IndexBehind(RuntimeError):
    """Whether there is such a decision cannot be told now: the index is away or behind."""


class TenantRefused(PermissionError):
    """The key speaks for another tenant.

    Attributes:
        mine: The tenant that it speaks for.
        pointer: To the tenant that was named instead.
    """

    def __init__(self, mine: str, index: int | None = None) -> None:
        """Say whose key it is; `index` is the item's in a list, None for a body of one."""
        super().__init__(f"the key speaks for the tenant {mine}")
        self.mine = mine
        self.pointer = "/tenant" if index is None else f"/{index}/tenant"


class Malformed(ValueError):
    """The bytes are no HTTP request."""


class HeadTooLarge(ValueError):
    """Request line and headers exceed their limits."""


class TooSlow(TimeoutError):
    """A request did not come to its end in time."""


class FeaturesUnreadable(RuntimeError):
    """What the store holds is of another spec than this process reads by, or is damaged."""


class MethodNotAllowed(ValueError):
    """The route exists, but not for this method."""

    def __init__(self, method: str, allowed: str) -> None:
        """Name the method that came, and the one that is taken."""
        super().__init__(f"{method} is not taken here; {allowed} is")
        self.allowed = allowed


class ManyRejected(ValueError):
    """Some items of a list are at fault; none was taken."""

    def __init__(self, rejected: list[tuple[int, EventRejected]]) -> None:
        """Keep each fault with its index in the list."""
        super().__init__(f"{len(rejected)} items rejected")
        self.rejected = rejected


class FieldError(msgspec.Struct, frozen=True):
    """One field at fault: where (JSON pointer), what (a sentence), which kind (closed set)."""

    pointer: str
    detail: str
    code: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document."""

    type: str
    title: str
    status: int
    detail: str = ""
    errors: list[FieldError] = []


class _Row(NamedTuple):
    status: int
    code: str
    title: str
    retry: bool = False


_TABLE: dict[type[Exception], _Row] = {
    EventRejected: _Row(422, "invalid", "The body is not what this route takes"),
    QuestionRejected: _Row(422, "invalid", "The question cannot be answered"),
    ManyRejected: _Row(422, "invalid", "Some items are not what this route takes"),
    BodyTooLarge: _Row(413, "too_large", "The body is too large"),
    Malformed: _Row(400, "malformed", "This is no HTTP request"),
    HeadTooLarge: _Row(431, "head_too_large", "The headers are too large"),
    TooSlow: _Row(408, "too_slow", "The request took too long to come"),
    MethodNotAllowed: _Row(405, "method_not_allowed", "The route does not take this method"),
    IdempotencyConflict: _Row(422, "idempotency_conflict", "The same name came with another body"),
    InProgress: _Row(409, "in_progress", "The same event is being decided", retry=True),
    Overloaded: _Row(429, "overloaded", "Too many requests are waiting", retry=True),
    DeadlineMissed: _Row(503, "deadline", "No answer was ready in time", retry=True),
    Draining: _Row(503, "not_ready", "This process does not take requests now", retry=True),
    KeyRefused: _Row(401, "unauthorized", "A valid API key is needed"),
    ScopeMissing: _Row(403, "forbidden", "The API key is not for this"),
    TenantRefused: _Row(403, "forbidden", "The API key is not for this"),
    KeysUnavailable: _Row(503, "keys_away", "API keys cannot be checked now", retry=True),
    RateLimited: _Row(429, "rate_limited", "This caller asks too much"),
    NoSuchDecision: _Row(404, "no_such_decision", "There is no such decision"),
    IndexBehind: _Row(503, "index_behind", "Decisions cannot be looked up now", retry=True),
    AuditUnavailable: _Row(503, "audit_away", "The audit log does not answer", retry=True),
    NoWeights: _Row(404, "no_such_version", "There is no such version of the weights"),
    RegistryUnavailable: _Row(503, "registry_away", "The registry does not answer", retry=True),
    StoreUnavailable: _Row(503, "store_away", "The feature store does not answer", retry=True),
    FeaturesUnreadable: _Row(
        503, "features_unreadable", "The feature store holds what this process cannot read", True
    ),
    NotRecorded: _Row(503, "not_recorded", "The decision could not be recorded", retry=True),
}
KNOWN = tuple(_TABLE)
"""What a route may raise and is answered by name."""
_BY_CODE = {"malformed": 400, "too_large": 413, "unknown_entity": 404}
_BY_STATUS = {
    404: ("no_such_route", "There is no such route"),
    405: ("method_not_allowed", "The route does not take this method"),
}
_OURS = _Row(500, "internal", "Something is wrong on our side")


class Answer(NamedTuple):
    """A finished HTTP answer, without any framework's type; `trace_id` if it was traced."""

    status: int
    body: bytes
    headers: dict[str, str]
    trace_id: str = ""


def problem_of(error: Exception) -> Answer:
    """Return the problem document of an exception; of one not in the table, a fixed 500."""
    row = _TABLE.get(type(error), _OURS)
    fields: list[FieldError] = []
    detail = str(error) if row is not _OURS else ""
    status, code = row.status, row.code
    if isinstance(error, EventRejected):
        status, code = _BY_CODE.get(error.code, row.status), error.code
        fields = [FieldError(error.pointer, error.detail, error.code)]
    elif isinstance(error, ManyRejected):
        fields = [
            FieldError(f"/{index}{rejected.pointer}", rejected.detail, rejected.code)
            for index, rejected in error.rejected
        ]
    elif isinstance(error, TenantRefused):
        fields = [FieldError(error.pointer, str(error), code)]
    problem = Problem(
        type=f"urn:riskbeat:problem:{code}",
        title=row.title,
        status=status,
        detail=detail,
        errors=fields,
    )
    return Answer(status, msgspec.json.encode(problem), _headers_of(error, row))


def _headers_of(error: Exception, row: _Row) -> dict[str, str]:
    headers = {"content-type": PROBLEM_TYPE}
    if row.retry:
        headers["retry-after"] = str(RETRY_AFTER_S)
    if isinstance(error, RateLimited):
        headers["retry-after"] = str(error.retry_after_s)
    elif isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allowed
    elif isinstance(error, KeyRefused):
        headers["www-authenticate"] = 'Bearer realm="riskbeat"'
    elif isinstance(error, ScopeMissing):
        headers["www-authenticate"] = (
            f'Bearer realm="riskbeat", error="insufficient_scope", scope="{error.needed}"'
        )
    return headers


def problem_of_status(
    status: int, detail: str, errors: Sequence[FieldError] = (), code: str = ""
) -> Answer:
    """Return the problem document of a refusal that a framework made."""
    known, title = _BY_STATUS.get(status, ("refused", "The request is not taken"))
    problem = Problem(
        type=f"urn:riskbeat:problem:{code or known}",
        title=title,
        status=status,
        detail=detail,
        errors=list(errors),
    )
    return Answer(status, msgspec.json.encode(problem), {"content-type": PROBLEM_TYPE})
