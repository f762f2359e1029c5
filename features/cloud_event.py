"""a CloudEvent (1.0) → the plain JSON body of the event that is its data.

Structured mode is an envelope around the data; in binary mode the attributes stand in headers, and
the body is the data. What the data leaves out is taken from the attributes; what both say must be
the same. Attributes that are not named here are passed over.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from features.event_wire import EVENT_MAX_BYTES, UNREADABLE, EventRejected

SPECVERSION = "1.0"
KAFKA_PREFIX, HTTP_PREFIX = "ce_", b"ce-"
ENVELOPE = b'"specversion"'
"""What a body in structured mode contains."""
REQUIRED = ("id", "source", "type")
_MAPPED = {"event_id": "id", "event_type": "type", "event_time": "time", "tenant": "tenant"}
"""Field of the data → attribute that stands in for it."""
_OF_DATA = frozenset({"data", "data_base64", "datacontenttype"})
_JSON = re.compile(r"^[a-z0-9.+-]+/(json|[a-z0-9.+-]+\+json)$")
_VERSION = re.compile(r"^v[0-9]+$")

_envelopes = msgspec.json.Decoder(dict[str, msgspec.Raw])
_texts = msgspec.json.Decoder(str)
_instants = msgspec.json.Decoder(datetime)


def kafka_attributes(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return the attributes in a record's headers; empty unless it is in binary mode.

    Raises:
        EventRejected: A header is not UTF-8.
    """
    found = {name: value for name, value in headers if name.startswith(KAFKA_PREFIX)}
    if f"{KAFKA_PREFIX}specversion" not in found:
        return {}
    try:
        named = {
            name[len(KAFKA_PREFIX) :]: (value or b"").decode() for name, value in found.items()
        }
    except UnicodeDecodeError as error:
        raise EventRejected("malformed", "", f"a {KAFKA_PREFIX} header is not UTF-8") from error
    kind = dict(headers).get("content-type")
    return named if kind is None else named | {"datacontenttype": kind.decode("latin-1")}


def http_attributes(headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Return the attributes in a request's headers; empty unless it is in binary mode."""
    if b"ce-specversion" not in headers:
        return {}
    named = {
        name[len(HTTP_PREFIX) :].decode("latin-1"): _unescaped(value)
        for name, value in headers.items()
        if name.startswith(HTTP_PREFIX)
    }
    kind = headers.get(b"content-type")
    return named if kind is None else named | {"datacontenttype": kind.decode("latin-1")}


def plain_of_record(headers: Iterable[tuple[str, bytes]], body: bytes) -> bytes:
    """Return the plain body of a record of the events topic, if it is in binary mode.

    Raises:
        EventRejected: As `plain_of_binary`.
    """
    attributes = kafka_attributes(headers)
    return plain_of_binary(attributes, body) if attributes else body


def plain_of_envelope(body: bytes) -> bytes:
    """Return the plain body of an event in structured mode; other bodies as they are.

    Raises:
        EventRejected: It is an envelope, and one that breaks a rule; names the attribute.
    """
    if len(body) > EVENT_MAX_BYTES:
        return body
    try:
        envelope = _envelopes.decode(body)
    except UNREADABLE:
        return body
    if "specversion" not in envelope or "event_type" in envelope:
        return body
    attributes = {
        name: _text(name, raw) for name, raw in envelope.items() if name in _KNOWN_ATTRIBUTES
    }
    return _merged(attributes, _data_of(envelope))


def plain_of_binary(attributes: Mapping[str, str], body: bytes) -> bytes:
    """Return the plain body of an event in binary mode.

    Raises:
        EventRejected: An attribute breaks a rule, or says another thing than the data.
    """
    return body if len(body) > EVENT_MAX_BYTES else _merged(attributes, body)


_KNOWN_ATTRIBUTES = frozenset({"specversion", "datacontenttype", *REQUIRED, *_MAPPED.values()})


def _data_of(envelope: Mapping[str, msgspec.Raw]) -> bytes:
    if "data" in envelope:
        if "data_base64" in envelope:
            raise EventRejected("conflict", "/data_base64", "data and data_base64 exclude another")
        return bytes(envelope["data"])
    if "data_base64" not in envelope:
        raise EventRejected("missing_field", "/data", "the event is required")
    try:
        return base64.b64decode(_text("data_base64", envelope["data_base64"]), validate=True)
    except binascii.Error as error:
        raise EventRejected("malformed", "/data_base64", f"expected Base64: {error}") from error


def _merged(attributes: Mapping[str, str], data: bytes) -> bytes:
    if attributes["specversion"] != SPECVERSION:
        raise EventRejected(
            "unknown_version", "/specversion", f"expected {SPECVERSION!r}, the version read here"
        )
    for name in REQUIRED:
        if not attributes.get(name):
            raise EventRejected("missing_field", f"/{name}", "a CloudEvent has this attribute")
    kind = attributes.get("datacontenttype", "application/json")
    if not _JSON.match(kind.partition(";")[0].strip().lower()):
        raise EventRejected("wrong_type", "/datacontenttype", "expected JSON")
    try:
        fields: dict[str, Any] = _envelopes.decode(data)
    except UNREADABLE as error:
        raise EventRejected("malformed", "/data", f"expected a JSON object: {error}") from error
    missing = {}
    for field, name in _MAPPED.items():
        if name not in attributes:
            continue
        said = _type_name(attributes[name]) if name == "type" else attributes[name]
        if field not in fields:
            missing[field] = said
        elif not _same(name, said, attributes[name], fields[field]):
            raise EventRejected(
                "conflict", f"/{name}", f"says another thing than {field} of the data"
            )
    return msgspec.json.encode(fields | missing) if missing else data


def _type_name(kind: str) -> str:
    """Return the event type that `com.example.card_payment.v1` or `card_payment` means."""
    names = kind.split(".")
    if len(names) > 1 and _VERSION.match(names[-1]):
        names.pop()
    return names[-1]


def _same(name: str, said: str, whole: str, raw: msgspec.Raw) -> bool:
    try:
        value = _texts.decode(raw)
        if name == "time":
            return _instants.decode(msgspec.json.encode(said)) == _instants.decode(raw)
    except msgspec.MsgspecError:
        return True  # the event's own rules say what is wrong with it
    return value in (said, whole)


def _text(name: str, raw: msgspec.Raw) -> str:
    try:
        return _texts.decode(raw)
    except msgspec.MsgspecError as error:
        raise EventRejected("wrong_type", f"/{name}", "expected a string") from error


def _unescaped(value: bytes) -> str:
    """Return a header's value: what is not printable ASCII is percent-encoded UTF-8 in it."""
    return _percent.sub(lambda found: bytes((int(found.group(1), 16),)), value).decode(
        errors="replace"
    )


_percent = re.compile(rb"%([0-9a-fA-F]{2})")
