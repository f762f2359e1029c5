"""bytes → Event or Label, or EventRejected: what happened, as its producer told it.

The wire is JSON (`schemas/event.json`). An `Event` is a value that was checked; nothing after this
station looks at raw bytes again.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
import xxhash

from features import event_wire
from features.cloud_event import ENVELOPE, plain_of_envelope
from features.event_wire import (
    AMOUNT_MAX_MINOR,
    ATTRIBUTES_MAX,
    DEFAULT_TENANT,
    ENTITIES_MAX,
    EVENT_MAX_BYTES,
    UNREADABLE,
    AttributeValue,
    EventRejected,
    Id,
    Instant,
    Name,
    Text,
    decode_strictly,
)

__all__ = [
    "AMOUNT_MAX_MINOR",
    "DEFAULT_TENANT",
    "EVENT_MAX_BYTES",
    "Amount",
    "AttributeValue",
    "Event",
    "EventRejected",
    "EventRules",
    "EventType",
    "Id",
    "Instant",
    "Label",
    "Name",
    "decision_id",
    "entity_key",
    "from_ms",
    "identity",
    "identity_hash",
    "identity_of",
    "parse_event",
    "parse_label",
    "partition_of",
    "to_ms",
]

MAX_FUTURE_SKEW_S = 60.0
SEPARATOR = "\x1f"
NAMES_KNOWN_MAX = 4096

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Amount(msgspec.Struct, frozen=True):
    """Money: an integer count of the currency's minor units, and the ISO 4217 code."""

    value: Annotated[int, msgspec.Meta(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
    currency: str


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One payment (or other event type of the spec), checked.

    Attributes:
        event_time: When it happened, by the producer's clock (aware).
        entities: Entity name → identifier, as in `{"card": "tok_9"}`.
        amount: Absent for event types without money.
    """

    event_type: str
    event_id: Text
    event_time: Instant
    entities: Annotated[dict[str, Text], msgspec.Meta(min_length=1, max_length=ENTITIES_MAX)]
    amount: Amount | None = None
    attributes: Annotated[dict[str, AttributeValue], msgspec.Meta(max_length=ATTRIBUTES_MAX)] = {}
    tenant: Text = DEFAULT_TENANT

    @property
    def event_time_ms(self) -> int:
        """Event time in whole milliseconds since 1970 (floor)."""
        return to_ms(self.event_time)


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody later said an event was. Append-only: a reversal is a label too."""

    event_type: Name
    event_id: Id
    label: Literal["fraud", "legit"]
    source: Literal["chargeback", "manual_review", "customer", "issuer", "rule"]
    label_time: Instant
    state: Literal["confirmed", "suspected", "reversed"] = "confirmed"
    reason_code: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    tenant: Id = DEFAULT_TENANT

    @property
    def label_time_ms(self) -> int:
        """Label time in whole milliseconds since 1970 (floor)."""
        return to_ms(self.label_time)


class EventType(msgspec.Struct, frozen=True):
    """What the spec asks of one event type: the entity that keys it, and whether it has money."""

    primary: str
    amount_required: bool = True


class EventRules(msgspec.Struct, frozen=True):
    """What the spec allows; `features.spec.Spec.event_rules` makes it."""

    event_types: Mapping[str, EventType]
    currencies: frozenset[str]
    max_future_skew_s: float = MAX_FUTURE_SKEW_S


_events = msgspec.json.Decoder(Event)
_strict_events = msgspec.json.Decoder(event_wire.Event)
_names_known: set[str] = set()
_labels = msgspec.json.Decoder(Label)


def to_ms(instant: datetime) -> int:
    """Return whole milliseconds since 1970 (floor) of an aware instant."""
    return (instant - _EPOCH) // _MILLISECOND


def from_ms(instant_ms: int) -> datetime:
    """Return the UTC instant of whole milliseconds since 1970."""
    return _EPOCH + instant_ms * _MILLISECOND


def identity(tenant: str, event_type: str, event_id: str) -> str:
    """Return the one name of an event in every key, label, hash and lookup."""
    return f"{tenant}{SEPARATOR}{event_type}{SEPARATOR}{event_id}"


def identity_of(item: Event | Label) -> str:
    """Return the identity of an event, or of the event that a label speaks about."""
    return identity(item.tenant, item.event_type, item.event_id)


def identity_hash(name: str) -> int:
    """Return the unsigned 64-bit hash of an identity.

    Two of n identities collide with probability n²/2⁶⁵: 3·10⁻⁶ for ten million in one horizon.
    """
    return xxhash.xxh3_64_intdigest(name.encode())


def decision_id(name: str) -> str:
    """Return the decision id of an identity: `dec_` and 128 bits of hash, in hex."""
    return f"dec_{xxhash.xxh3_128_hexdigest(name.encode())}"


def entity_key(tenant: str, entity: str, entity_id: str) -> bytes:
    """Return the key under which an entity's state is kept."""
    return f"{tenant}{SEPARATOR}{entity}{SEPARATOR}{entity_id}".encode()


def partition_of(key: bytes, partitions: int) -> int:
    """Return the updates partition that owns an entity key (stable across processes)."""
    return xxhash.xxh3_64_intdigest(key) % partitions


def parse_event(body: bytes, rules: EventRules, appended_ms: int) -> Event:
    """Decode and check one event.

    Args:
        body: The bytes as they arrived.
        rules: What the feature spec allows.
        appended_ms: When the log took the event (or now, over HTTP): the clock against which
            a time in the future is judged.

    Raises:
        EventRejected: The bytes break the schema or the rules; names the field.
    """
    event = _read_event(body, rules)
    event_type = rules.event_types.get(event.event_type)
    if event_type is None:
        known = ", ".join(sorted(rules.event_types))
        raise EventRejected("unknown_event_type", "/event_type", f"expected one of: {known}")
    if event_type.primary not in event.entities:
        raise EventRejected(
            "missing_field", f"/entities/{event_type.primary}", "the primary entity is required"
        )
    if event.amount is None:
        if event_type.amount_required:
            raise EventRejected("missing_field", "/amount", "an amount is required")
    elif event.amount.currency not in rules.currencies:
        raise EventRejected(
            "unknown_currency", "/amount/currency", f"no rate for {event.amount.currency}"
        )
    at_ms = to_ms(event.event_time)
    if at_ms < 0 or at_ms > appended_ms:  # most lie behind; the call is saved for them
        _check_time(at_ms, "/event_time", rules.max_future_skew_s, appended_ms)
    return event


def _read_event(body: bytes, rules: EventRules) -> Event:
    """Decode an event, plain or in an envelope; every string of it obeys its pattern.

    JSON has no control character inside a string but an escaped one, so a body without a
    backslash (and without DEL) has none at all, and only names are left to be checked.
    """
    if len(body) <= EVENT_MAX_BYTES and b"\\" not in body and b"\x7f" not in body:
        try:
            event = _events.decode(body)
        except UNREADABLE:
            pass  # the strict decoder says what is wrong, and where
        else:
            amount = event.amount
            if (
                event.event_type in rules.event_types
                and event.entities.keys() <= _names_known
                and (amount is None or amount.currency in rules.currencies)
            ):
                return event
    if ENVELOPE in body:
        plain = plain_of_envelope(body)
        if plain is not body:  # it has an event type, so it is not taken for an envelope again
            return _read_event(plain, rules)
    checked = decode_strictly(_strict_events, body)
    if len(_names_known) < NAMES_KNOWN_MAX:
        _names_known.update(checked.entities)
    return _events.decode(body)


def parse_label(body: bytes, rules: EventRules, appended_ms: int) -> Label:
    """Decode and check one label.

    Raises:
        EventRejected: The bytes break the schema or the rules; names the field.
    """
    label = decode_strictly(_labels, body)
    if label.event_type not in rules.event_types:
        known = ", ".join(sorted(rules.event_types))
        raise EventRejected("unknown_event_type", "/event_type", f"expected one of: {known}")
    _check_time(label.label_time_ms, "/label_time", rules.max_future_skew_s, appended_ms)
    return label


def _check_time(at_ms: int, pointer: str, skew_s: float, appended_ms: int) -> None:
    if at_ms < 0:
        raise EventRejected("time_out_of_range", pointer, "lies before 1970")
    if at_ms > appended_ms + skew_s * 1000:
        raise EventRejected(
            "time_in_future", pointer, f"lies more than {skew_s:g} s after its arrival"
        )
