"""bytes → Event or Label, or EventRejected: what happened, as its producer told it.

The wire is JSON (`schemas/event.json`). An `Event` is a value that was checked; nothing after this
station looks at raw bytes again.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import msgspec
import xxhash

EVENT_MAX_BYTES = 64 * 1024
ID_MAX_CHARS = 256
ENTITIES_MAX = 16
ATTRIBUTES_MAX = 64
AMOUNT_MAX_MINOR = 10**12
MAX_FUTURE_SKEW_S = 60.0
DEFAULT_TENANT = "default"
SEPARATOR = "\x1f"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_PATH = re.compile(r"`\$([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")

Id = Annotated[
    str, msgspec.Meta(min_length=1, max_length=ID_MAX_CHARS, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")
]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$(?!\n)")]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
AttributeValue = str | int | float | bool | None
T = TypeVar("T")


class EventRejected(ValueError):
    """The producer's fault: the bytes are no event (or label) that we can take.

    Attributes:
        code: Closed set of reasons, fit for a metric label.
        pointer: JSON pointer (RFC 6901) of the field at fault; empty for the whole document.
        detail: One readable sentence.
    """

    def __init__(self, code: str, pointer: str, detail: str) -> None:
        """Name the reason, the place and the sentence."""
        super().__init__(f"{pointer or '/'}: {detail}")
        self.code = code
        self.pointer = pointer
        self.detail = detail


class Amount(msgspec.Struct, frozen=True):
    """Money: an integer count of the currency's minor units, and the ISO 4217 code."""

    value: Annotated[int, msgspec.Meta(ge=-AMOUNT_MAX_MINOR, le=AMOUNT_MAX_MINOR)]
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$(?!\n)")]


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One payment (or other event type of the spec), checked.

    Attributes:
        event_time: When it happened, by the producer's clock (aware).
        entities: Entity name → identifier, as in `{"card": "tok_9"}`.
        amount: Absent for event types without money.
    """

    event_type: Name
    event_id: Id
    event_time: Instant
    entities: Annotated[dict[Name, Id], msgspec.Meta(min_length=1, max_length=ENTITIES_MAX)]
    amount: Amount | None = None
    attributes: Annotated[dict[str, AttributeValue], msgspec.Meta(max_length=ATTRIBUTES_MAX)] = {}
    tenant: Id = DEFAULT_TENANT

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


_MEMBERS: Mapping[str, Any] = {"entities": dict[Name, Id], "attributes": dict[str, AttributeValue]}
_events = msgspec.json.Decoder(Event)
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
    event = _decode(_events, body)
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
    _check_time(event.event_time_ms, "/event_time", rules.max_future_skew_s, appended_ms)
    return event


def parse_label(body: bytes, rules: EventRules, appended_ms: int) -> Label:
    """Decode and check one label.

    Raises:
        EventRejected: The bytes break the schema or the rules; names the field.
    """
    label = _decode(_labels, body)
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


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    if len(body) > EVENT_MAX_BYTES:
        raise EventRejected(
            "too_large", "", f"{len(body)} bytes; at most {EVENT_MAX_BYTES} are taken"
        )
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        _reject_invalid(body, error)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        _reject_malformed(body, error)


def _reject_invalid(body: bytes, error: msgspec.ValidationError) -> NoReturn:
    """Turn msgspec's `… - at `$.amount.value`` into a JSON pointer and a code."""
    text = str(error).partition(" - at ")[0]
    path = _PATH.search(str(error))
    steps = path.group(1).replace("[...]", "").split(".")[1:] if path else []
    pointer = "".join(f"/{_escape(step)}" for step in steps)
    missing = _MISSING.search(text)
    if missing:
        raise EventRejected("missing_field", f"{pointer}/{_escape(missing.group(1))}", text)
    if steps and steps[0] in _MEMBERS:
        pointer += _find_member(body, steps[0])
    raise EventRejected("wrong_type", pointer, text) from error


def _find_member(body: bytes, field: str) -> str:
    """Return the pointer step of the first entity or attribute at fault, or nothing.

    msgspec says `[...]` for a member of a mapping; this runs only for what was refused.
    """
    try:
        members = json.loads(body)[field].items()
    except (ValueError, RecursionError, AttributeError):
        return ""
    for name, value in members:
        try:
            msgspec.convert({name: value}, _MEMBERS[field])
        except msgspec.ValidationError:
            return f"/{_escape(name)}"
        if isinstance(value, float) and not math.isfinite(value):
            return f"/{_escape(name)}"
    return ""


def _reject_malformed(body: bytes, error: Exception) -> NoReturn:
    """Name the field that holds NaN or Infinity, which JSON does not know; else the position."""
    try:
        pointer = _find_not_finite(json.loads(body), "")
    except (ValueError, RecursionError):
        pointer = None
    if pointer is None:
        raise EventRejected("malformed", "", str(error)) from error
    raise EventRejected("not_finite", pointer, "must be a finite number") from error


def _find_not_finite(value: Any, pointer: str) -> str | None:
    if isinstance(value, float) and not math.isfinite(value):
        return pointer
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for name, child in children:
        found = _find_not_finite(child, f"{pointer}/{_escape(str(name))}")
        if found is not None:
            return found
    return None


def _escape(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1")
