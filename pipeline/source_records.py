"""log records → events or label transitions, and what is wrong with the others."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import msgspec

from features.cloud_event import plain_of_record
from features.event import Event, EventRejected, EventRules, parse_event
from features.event_wire import UNREADABLE
from features.update import LabelTransition
from pipeline.featurize import LogRecord

T = TypeVar("T")
_transitions = msgspec.json.Decoder(LabelTransition)


@dataclass(frozen=True, slots=True)
class Reject:
    """A source record that is no event: goes to the dead-letter topic.

    Attributes:
        code: Closed set of reasons (`EventRejected.code`).
        pointer: JSON pointer of the field at fault.
    """

    offset: int
    code: str
    pointer: str
    detail: str
    body: bytes


class Taken(NamedTuple, Generic[T]):
    """What could be read of a batch: records, and with each what it says; and the others."""

    records: Sequence[LogRecord]
    items: list[T]
    rejects: list[Reject]


def read_events(batch: Sequence[LogRecord], rules: EventRules) -> Taken[Event]:
    """Read events, plain or CloudEvents."""

    def read(record: LogRecord) -> Event:
        body = record.value or b""
        plain = plain_of_record(record.headers, body) if record.headers else body
        return parse_event(plain, rules, record.timestamp)

    return _read_each(batch, read)


def read_transitions(batch: Sequence[LogRecord]) -> Taken[LabelTransition]:
    """Read label transitions, as the learner writes them."""

    def read(record: LogRecord) -> LabelTransition:
        try:
            return _transitions.decode(record.value or b"")
        except UNREADABLE as error:
            raise EventRejected("malformed", "", str(error)) from error

    return _read_each(batch, read)


def _read_each(batch: Sequence[LogRecord], read: Callable[[LogRecord], T]) -> Taken[T]:
    items: list[T] = []
    rejects: list[Reject] = []
    for record in batch:
        try:
            items.append(read(record))
        except EventRejected as error:
            body = record.value or b""
            rejects.append(Reject(record.offset, error.code, error.pointer, error.detail, body))
    if not rejects:
        return Taken(batch, items, rejects)
    bad = {reject.offset for reject in rejects}
    return Taken([record for record in batch if record.offset not in bad], items, rejects)
