"""bytes → what the wire allows, or EventRejected: every rule of the schema, and who broke it.

The shapes here are those of `schemas/event.json`. Checking their patterns takes five times as long
as reading the JSON, so `features.event` vouches for ordinary events in another way, and comes here
for the rest: for whatever is odd, and to name what is wrong.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of bytes that somebody sent: no JSON or of another shape, no UTF-8, or nested
deeper than it follows."""

EVENT_MAX_BYTES = 64 * 1024
ID_MAX_CHARS = 256
ENTITIES_MAX = 16
ATTRIBUTES_MAX = 64
AMOUNT_MAX_MINOR = 10**12
DEFAULT_TENANT = "default"

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_MAX_CHARS)]
Id = Annotated[
    str, msgspec.Meta(min_length=1, max_length=ID_MAX_CHARS, pattern=r"^[^\x00-\x1f\x7f]*$(?!\n)")
]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$(?!\n)")]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
AttributeValue = str | int | float | bool | None
T = TypeVar("T")

_PATH = re.compile(r"`\$([^`]*)`$")
_MISSING = re.compile(r"missing required field `([^`]+)`")


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


_MEMBERS: Mapping[str, Any] = {"entities": dict[Name, Id], "attributes": dict[str, AttributeValue]}


def decode_strictly(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decode one document by a decoder of strict shapes.

    Raises:
        EventRejected: The bytes break the schema; names the field.
    """
    if len(body) > EVENT_MAX_BYTES:
        raise EventRejected(
            "too_large", "", f"{len(body)} bytes; at most {EVENT_MAX_BYTES} are taken"
        )
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        _reject_invalid(body, error)
    except UNREADABLE as error:
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
