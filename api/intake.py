"""HTTP bodies → Questions, Events, Labels, or a rejection that names every field at fault."""

from collections.abc import Callable
from typing import TypeVar

import msgspec

from api.answer import Question
from api.claims import Claim, body_hash_of
from api.errors import ManyRejected
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

BATCH_MAX_ITEMS = 1_000
BATCH_MAX_BYTES = 1_048_576
IDEMPOTENCY_KEY_MAX_CHARS = 256
REJECTED_SHOWN_MAX = 100

T = TypeVar("T")
_raw_lists = msgspec.json.Decoder(list[msgspec.Raw])


class Intake:
    """Reads bodies under the rules of one spec."""

    def __init__(self, rules: EventRules, now_ms: Callable[[], int]) -> None:
        """Take the rules, and the clock against which a time in the future is judged."""
        self._rules = rules
        self._now_ms = now_ms

    def question(self, body: bytes, idempotency_key: str | None = None) -> Question:
        """Read one event to decide.

        Raises:
            EventRejected: The body or the key is at fault.
        """
        event = parse_event(body, self._rules, self._now_ms())
        body_hash = body_hash_of(event)
        claim = Claim(decision_id(identity_of(event)), body_hash)
        if idempotency_key is None:
            return Question(event, body, claim)
        if not 0 < len(idempotency_key) <= IDEMPOTENCY_KEY_MAX_CHARS:
            raise EventRejected(
                "wrong_type",
                "",
                f"Idempotency-Key: expected 1 to {IDEMPOTENCY_KEY_MAX_CHARS} characters",
            )
        return Question(
            event, body, claim, Claim(f"key:{event.tenant}:{idempotency_key}", body_hash)
        )

    def questions(self, body: bytes) -> list[Question]:
        """Read a JSON array of events to decide; all or none.

        Raises:
            EventRejected: The body is no array, or too long.
            ManyRejected: Items are at fault; names all of them.
        """
        return _each(_items(body), self.question)

    def events(self, body: bytes) -> list[tuple[Event, bytes]]:
        """Read one event, or a JSON array of them; all or none. With each its own bytes.

        Raises:
            EventRejected: The one event, or the array itself, is at fault.
            ManyRejected: Items are at fault.
        """
        return self._one_or_many(body, self._event)

    def labels(self, body: bytes) -> list[tuple[Label, bytes]]:
        """Read one label, or a JSON array of them; all or none. With each its own bytes.

        Raises:
            EventRejected: The one label, or the array itself, is at fault.
            ManyRejected: Items are at fault.
        """
        return self._one_or_many(body, self._label)

    def _event(self, body: bytes) -> tuple[Event, bytes]:
        return parse_event(body, self._rules, self._now_ms()), body

    def _label(self, body: bytes) -> tuple[Label, bytes]:
        return parse_label(body, self._rules, self._now_ms()), body

    def _one_or_many(self, body: bytes, read: Callable[[bytes], T]) -> list[T]:
        return _each(_items(body), read) if is_list(body) else [read(body)]


def is_list(body: bytes) -> bool:
    """Whether a body begins like a JSON array."""
    return body.lstrip()[:1] == b"["


def _items(body: bytes) -> list[bytes]:
    try:
        items = _raw_lists.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EventRejected("malformed", "", f"expected a JSON array: {error}") from error
    if not 0 < len(items) <= BATCH_MAX_ITEMS:
        raise EventRejected("too_many", "", f"{len(items)} items; 1 to {BATCH_MAX_ITEMS} are taken")
    return [bytes(item) for item in items]


def _each(items: list[bytes], read: Callable[[bytes], T]) -> list[T]:
    good: list[T] = []
    rejected: list[tuple[int, EventRejected]] = []
    for index, item in enumerate(items):
        try:
            good.append(read(item))
        except EventRejected as error:
            rejected.append((index, error))
            if len(rejected) == REJECTED_SHOWN_MAX:
                break
    if rejected:
        raise ManyRejected(rejected)
    return good
