"""A CloudEvent in each mode is the event that its data is; what it says twice must agree."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.cloud_event import (
    http_attributes,
    kafka_attributes,
    plain_of_binary,
    plain_of_envelope,
    plain_of_record,
)
from features.event import Event, EventRejected, EventRules, EventType, parse_event

RULES = EventRules(
    event_types={"card_payment": EventType(primary="card"), "login": EventType("card", False)},
    currencies=frozenset({"EUR"}),
)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_MS = 1_772_366_400_000
PLAIN: dict[str, Any] = {
    "event_type": "card_payment",
    "event_id": "pay_1",
    "event_time": "2026-03-01T11:59:00.120Z",
    "entities": {"card": "tok_9", "merchant": "Ürün “7”"},
    "amount": {"value": 12550, "currency": "EUR"},
    "attributes": {"mcc": "5732", "ratio": 0.1},
}
ENVELOPE: dict[str, Any] = {
    "specversion": "1.0",
    "id": "pay_1",
    "source": "/shop",
    "type": "card_payment",
    "time": "2026-03-01T11:59:00.120Z",
}

texts = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=20
)
plains = st.fixed_dictionaries(
    {
        "event_type": st.sampled_from(["card_payment", "login"]),
        "event_id": texts,
        "event_time": st.integers(1, 10**9).map(
            lambda ms: (NOW - timedelta(milliseconds=ms)).isoformat()
        ),
        "entities": st.fixed_dictionaries({"card": texts}, optional={"ip": texts}),
        "amount": st.fixed_dictionaries(
            {"value": st.integers(-(10**12), 10**12), "currency": st.just("EUR")}
        ),
    },
    optional={
        "tenant": texts,
        "attributes": st.dictionaries(
            texts, st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans()), max_size=4
        ),
    },
)
MAPPED = {"event_id": "id", "event_type": "type", "event_time": "time", "tenant": "tenant"}


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode()


def parsed(body: bytes) -> Event:
    return parse_event(body, RULES, NOW_MS)


def cloud(plain: dict[str, Any], left_out: set[str]) -> tuple[dict[str, str], dict[str, Any]]:
    """The attributes that say the same, and the data without some of what they say."""
    attributes = {"specversion": "1.0", "source": "/shop", "datacontenttype": "application/json"}
    attributes |= {MAPPED[field]: plain[field] for field in MAPPED if field in plain}
    data = {field: value for field, value in plain.items() if field not in left_out}
    return attributes, data


@given(plains, st.sets(st.sampled_from(sorted(MAPPED))))
def test_an_event_is_the_same_in_each_mode(plain: dict[str, Any], left_out: set[str]) -> None:
    expected = parsed(encoded(plain))
    attributes, data = cloud(plain, left_out)
    assert parsed(encoded(attributes | {"data": data})) == expected
    in_base64 = {"data_base64": base64.b64encode(encoded(data)).decode()}
    assert parsed(encoded(in_base64 | attributes)) == expected
    kafka = [(f"ce_{name}", value.encode()) for name, value in attributes.items()]
    assert parsed(plain_of_record(kafka, encoded(data))) == expected
    http = {f"ce-{name}".encode(): percent_encoded(value) for name, value in attributes.items()}
    assert parsed(plain_of_binary(http_attributes(http), encoded(data))) == expected


def percent_encoded(value: str) -> bytes:
    """As the HTTP binding wants it, written without a library that decodes it again."""
    out = ""
    for character in value:
        if 0x21 <= ord(character) <= 0x7E and character not in '"%':
            out += character
        else:
            out += "".join(f"%{byte:02X}" for byte in character.encode())
    return out.encode()


@pytest.mark.parametrize(
    "kind", ["com.example.card_payment", "com.example.card_payment.v1", "card_payment"]
)
def test_a_type_may_bear_a_name_in_reverse_and_a_version(kind: str) -> None:
    data = {field: value for field, value in PLAIN.items() if field != "event_type"}
    event = parsed(encoded(ENVELOPE | {"type": kind, "data": data}))
    assert event == parsed(encoded(PLAIN))
    assert parsed(encoded(ENVELOPE | {"type": kind, "data": PLAIN})) == event


def test_the_same_instant_may_be_written_in_another_zone() -> None:
    other = ENVELOPE | {"time": "2026-03-01T12:59:00.12+01:00", "data": PLAIN}
    assert parsed(encoded(other)) == parsed(encoded(PLAIN))


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"id": "pay_2"}, "conflict", "/id"),
        ({"type": "login"}, "conflict", "/type"),
        ({"time": "2026-03-01T11:59:00.121Z"}, "conflict", "/time"),
        ({"data": PLAIN | {"tenant": "a"}, "tenant": "b"}, "conflict", "/tenant"),
        ({"data_base64": "e30="}, "conflict", "/data_base64"),
        ({"specversion": "0.3"}, "unknown_version", "/specversion"),
        ({"id": None}, "wrong_type", "/id"),
        ({"id": ""}, "missing_field", "/id"),
        ({"source": ""}, "missing_field", "/source"),
        ({"data": ...}, "missing_field", "/data"),
        ({"data": "text"}, "malformed", "/data"),
        ({"data": ..., "data_base64": "?"}, "malformed", "/data_base64"),
        ({"datacontenttype": "text/xml"}, "wrong_type", "/datacontenttype"),
        ({"data": {"entities": {}}}, "wrong_type", "/entities"),
        ({"data": {"event_id": 7}}, "wrong_type", "/event_id"),
    ],
)
def test_what_breaks_a_rule_is_rejected_by_name(
    changes: dict[str, Any], code: str, pointer: str
) -> None:
    whole = {"data": PLAIN} | ENVELOPE | changes
    body = encoded({name: value for name, value in whole.items() if value is not ...})
    with pytest.raises(EventRejected) as told:
        parsed(body)
    assert (told.value.code, told.value.pointer) == (code, pointer)


def test_headers_of_others_say_nothing() -> None:
    assert kafka_attributes([("traceparent", b"00-1"), ("ce_id", b"x")]) == {}
    assert http_attributes({b"ce-id": b"x", b"content-type": b"application/json"}) == {}
    assert plain_of_record([("traceparent", b"00-1")], b"{}") == b"{}"


def test_a_header_that_is_no_text_is_rejected() -> None:
    with pytest.raises(EventRejected, match="not UTF-8"):
        plain_of_record([("ce_specversion", b"1.0"), ("ce_id", b"\xff")], b"{}")


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"a": 1}', encoded(PLAIN)])
def test_what_is_no_envelope_stays_as_it_is(body: bytes) -> None:
    assert plain_of_envelope(body) is body


def test_a_plain_event_may_have_an_attribute_of_that_name() -> None:
    plain = PLAIN | {"attributes": {"specversion": "1.0", "e": "\\"}}
    assert parsed(encoded(plain)).attributes["specversion"] == "1.0"


def test_what_is_too_large_is_said_to_be() -> None:
    body = encoded(ENVELOPE | {"data": PLAIN, "padding": "x" * 70_000})
    with pytest.raises(EventRejected) as told:
        parsed(body)
    assert told.value.code == "too_large"
    assert plain_of_binary(ENVELOPE, body) is body
