"""HTTP bodies → Questions, Events, Labels, or a rejection that names every field at fault."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeVar

import msgspec

from api.answer import Question
from api.claims import Claim, body_hash_of
from api.errors import ManyRejected, TenantRefused
from api.ndjson import lines_of
from features.cloud_event import plain_of_binary
from features.event import (
    Event,
    EventRejected,
    EventRules,
    Label,
    decision_id,
    identity_of,
    parse_event,
    parse_label,
)
from features.event_wire import UNREADABLE

BATCH_MAX_ITEMS = 1_000
BATCH_MAX_BYTES = 1_048_576
IDEMPOTENCY_KEY_MAX_CHARS = 256
_keys = re.compile(rf"[!-~]{{1,{IDEMPOTENCY_KEY_MAX_CHARS}}}")
REJECTED_SHOWN_MAX = 100

T = TypeVar("T")
Item = TypeVar("Item", bytes, msgspec.Raw)
_raw_lists = msgspec.json.Decoder(list[msgspec.Raw])


class Caller(NamedTuple):
    """What a request says of all its items.

    Attributes:
        tenant: The only one that its items may be of; None: any.
        trace: Headers for the records that are made of them.
        lines: Whether the body is lines, and no JSON array.
        cloud: Attributes of a CloudEvent in binary mode, whose data the body is; else empty.
    """

    tenant: str | None = None
    trace: tuple[tuple[str, bytes], ...] = ()
    lines: bool = False
    cloud: Mapping[str, str] = MappingProxyType({})


ANY_CALLER = Caller()


class Intake:
    """Reads bodies under the rules of one spec.

    Whatever it reads, an item of a tenant that is not the caller's is `TenantRefused`.
    """

    def __init__(self, rules: EventRules, now_ms: Callable[[], int]) -> None:
        """Take the rules, and the clock against which a time in the future is judged."""
        self._rules = rules
        self._now_ms = now_ms

    def question(
        self, body: bytes, idempotency_key: str | None = None, caller: Caller = ANY_CALLER
    ) -> Question:
        """Read one event to decide.

        Raises:
            EventRejected: The body or the key is at fault.
        """
        if caller.cloud:
            body = plain_of_binary(caller.cloud, body)
        event = parse_event(body, self._rules, self._now_ms())
        _check_tenant(event, caller)
        body_hash = body_hash_of(event)
        claim = Claim(decision_id(identity_of(event)), body_hash)
        if idempotency_key is None:
            return Question(event, body, claim, None, caller.trace)
        if not _keys.fullmatch(idempotency_key):
            raise EventRejected(
                "wrong_type",
                "",
                f"Idempotency-Key: expected 1 to {IDEMPOTENCY_KEY_MAX_CHARS} visible characters of "
                "ASCII, without a space",
            )
        key_claim = Claim(f"key:{event.tenant}:{idempotency_key}", body_hash)
        return Question(event, body, claim, key_claim, caller.trace)

    def questions(self, body: bytes, caller: Caller = ANY_CALLER) -> list[Question]:
        """Read a JSON array of events to decide; all or none.

        Raises:
            EventRejected: The body is no array, or too long.
            ManyRejected: Items are at fault; names all of them.
        """
        _check_list(caller)
        return _each(_items(body), lambda item: self.question(item, None, caller))

    def question_lines(
        self, body: bytes, caller: Caller = ANY_CALLER
    ) -> list[Question | EventRejected | TenantRefused]:
        """Read lines of events to decide; each is a question, or what is wrong with it.

        Raises:
            EventRejected: There are none, or too many.
        """
        _check_list(caller)
        read: list[Question | EventRejected | TenantRefused] = []
        for line in _checked(lines_of(body)):
            try:
                read.append(self.question(line, None, caller))
            except (EventRejected, TenantRefused) as error:
                read.append(error)
        return read

    def events(self, body: bytes, caller: Caller = ANY_CALLER) -> list[tuple[Event, bytes]]:
        """Read one event, an array or lines of them; all or none. With each its own bytes.

        Raises:
            EventRejected: The one event, or the array itself, is at fault.
            ManyRejected: Items are at fault.
        """
        if caller.lines or is_list(body):
            _check_list(caller)
        return self._one_or_many(body, caller, self._event)

    def labels(self, body: bytes, caller: Caller = ANY_CALLER) -> list[tuple[Label, bytes]]:
        """Read one label, an array or lines of them; all or none. With each its own bytes.

        Raises:
            EventRejected: The one label, or the array itself, is at fault.
            ManyRejected: Items are at fault.
        """
        return self._one_or_many(body, caller, self._label)

    def _event(self, body: bytes, caller: Caller) -> tuple[Event, bytes]:
        if caller.cloud:
            body = plain_of_binary(caller.cloud, body)
        event = parse_event(body, self._rules, self._now_ms())
        _check_tenant(event, caller)
        return event, body

    def _label(self, body: bytes, caller: Caller) -> tuple[Label, bytes]:
        label = parse_label(body, self._rules, self._now_ms())
        _check_tenant(label, caller)
        return label, body

    def _one_or_many(
        self, body: bytes, caller: Caller, read: Callable[[bytes, Caller], T]
    ) -> list[T]:
        if caller.lines:
            return _each(_checked(lines_of(body)), lambda line: read(line, caller))
        if is_list(body):
            return _each(_items(body), lambda item: read(item, caller))
        return [read(body, caller)]


def _check_tenant(item: Event | Label, caller: Caller) -> None:
    if caller.tenant is not None and item.tenant != caller.tenant:
        raise TenantRefused(caller.tenant)


def _check_list(caller: Caller) -> None:
    if caller.cloud:
        raise EventRejected(
            "malformed", "", "ce- headers speak of one event; send a list as a batch of envelopes"
        )


def is_list(body: bytes) -> bool:
    """Whether a body begins like a JSON array."""
    return body.lstrip()[:1] == b"["


def _items(body: bytes) -> list[bytes]:
    try:
        items = _raw_lists.decode(body)
    except UNREADABLE as error:
        raise EventRejected("malformed", "", f"expected a JSON array: {error}") from error
    return [bytes(item) for item in _checked(items)]


def _checked(items: list[Item]) -> list[Item]:
    if not 0 < len(items) <= BATCH_MAX_ITEMS:
        raise EventRejected("too_many", "", f"{len(items)} items; 1 to {BATCH_MAX_ITEMS} are taken")
    return items


def _each(items: list[bytes], read: Callable[[bytes], T]) -> list[T]:
    good: list[T] = []
    rejected: list[tuple[int, EventRejected]] = []
    for index, item in enumerate(items):
        try:
            good.append(read(item))
        except TenantRefused as error:
            raise TenantRefused(error.mine, index) from error
        except EventRejected as error:
            rejected.append((index, error))
            if len(rejected) == REJECTED_SHOWN_MAX:
                break
    if rejected:
        raise ManyRejected(rejected)
    return good
