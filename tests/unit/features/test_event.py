"""What a producer can get wrong, and the code and JSON pointer by which it is told."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import event_wire
from features.event import (
    EVENT_MAX_BYTES,
    Amount,
    EventRejected,
    EventRules,
    EventType,
    decision_id,
    entity_key,
    from_ms,
    identity,
    identity_hash,
    identity_of,
    parse_event,
    parse_label,
    partition_of,
    to_ms,
)

RULES = EventRules(
    event_types={"card_payment": EventType("card"), "login": EventType("card", False)},
    currencies=frozenset({"EUR", "JPY"}),
    max_future_skew_s=60.0,
)
EVENT: dict[str, Any] = {
    "event_type": "card_payment",
    "event_id": "pay_1",
    "event_time": "2026-03-01T12:00:00.120Z",
    "entities": {"card": "tok_9", "merchant": "m_7"},
    "amount": {"value": 12550, "currency": "EUR"},
    "attributes": {"mcc": "5732", "score": 1.5, "on_file": True, "note": None},
}
LABEL: dict[str, Any] = {
    "event_type": "card_payment",
    "event_id": "pay_1",
    "label": "fraud",
    "source": "chargeback",
    "label_time": "2026-03-09T00:00:00+01:00",
}
TEXT = st.text("aZ~/.[\n\x1f", max_size=4)
NOW_MS = to_ms(datetime(2026, 3, 10, tzinfo=UTC))


def body(base: dict[str, Any] = EVENT, **changes: Any) -> bytes:
    """Return JSON with fields changed; a field set to `...` is left out."""
    return json.dumps({k: v for k, v in (base | changes).items() if v is not ...}).encode()


def test_an_event_is_taken_as_it_was_sent() -> None:
    event = parse_event(body(), RULES, NOW_MS)
    assert event.event_time == datetime(2026, 3, 1, 12, 0, 0, 120_000, tzinfo=UTC)
    assert event.event_time_ms == 1_772_366_400_120
    assert event.amount == Amount(12550, "EUR")
    assert event.entities == EVENT["entities"]
    assert event.attributes == EVENT["attributes"]
    assert event.tenant == "default"


def test_fields_that_are_not_known_are_passed_over() -> None:
    assert parse_event(body(extra={"a": [1, 2]}), RULES, NOW_MS).event_id == "pay_1"


def test_a_type_without_money_needs_none() -> None:
    assert parse_event(body(event_type="login", amount=...), RULES, NOW_MS).amount is None


BAD_EVENTS: list[tuple[str, bytes, str, str]] = [
    ("empty", b"", "malformed", ""),
    ("cut off", body()[:-9], "malformed", ""),
    ("not utf-8", b"\xff\xfe{}", "malformed", ""),
    ("bad utf-8 in a value", body().replace(b"5732", b"\xff\xff"), "malformed", ""),
    ("a list", b"[]", "wrong_type", ""),
    ("deep", b"[" * 50_000, "wrong_type", ""),
    ("deep in a field unknown to us", b'{"a":' * 5_000, "malformed", ""),
    ("2 MB", body(attributes={"a": "x" * 2_000_000}), "too_large", ""),
    ("no id", body(event_id=...), "missing_field", "/event_id"),
    ("no time", body(event_time=...), "missing_field", "/event_time"),
    ("no entities", body(entities=...), "missing_field", "/entities"),
    ("no primary entity", body(entities={"merchant": "m"}), "missing_field", "/entities/card"),
    ("no amount", body(amount=...), "missing_field", "/amount"),
    ("no currency", body(amount={"value": 1}), "missing_field", "/amount/currency"),
    ("id is a number", body(event_id=7), "wrong_type", "/event_id"),
    ("id is empty", body(event_id=""), "wrong_type", "/event_id"),
    ("id too long", body(event_id="x" * 257), "wrong_type", "/event_id"),
    ("id with a separator", body(event_id="a\x1fb"), "wrong_type", "/event_id"),
    ("id with a line end", body(event_id="a\n"), "wrong_type", "/event_id"),
    ("tenant with a separator", body(tenant="a\x1f"), "wrong_type", "/tenant"),
    ("entity is a number", body(entities={"card": "a", "ip": 5}), "wrong_type", "/entities/ip"),
    ("entity is null", body(entities={"card": None}), "wrong_type", "/entities/card"),
    ("entity name", body(entities={"card": "a", "A/b": "c"}), "wrong_type", "/entities/A~1b"),
    ("entities empty", body(entities={}), "wrong_type", "/entities"),
    ("17 entities", body(entities={f"e{i}": "x" for i in range(17)}), "wrong_type", "/entities"),
    ("attribute is a list", body(attributes={"a": 1, "b~": [1]}), "wrong_type", "/attributes/b~0"),
    ("amount is a float", body(amount={"value": 1.5, "currency": "EUR"}), "wrong_type",
     "/amount/value"),
    ("amount is text", body(amount={"value": "1", "currency": "EUR"}), "wrong_type",
     "/amount/value"),
    ("amount too large", body(amount={"value": 10**12 + 1, "currency": "EUR"}), "wrong_type",
     "/amount/value"),
    ("amount is NaN", body(amount={"value": float("nan"), "currency": "EUR"}), "not_finite",
     "/amount/value"),
    ("attribute is infinite", body(attributes={"a": float("inf")}), "not_finite",
     "/attributes/a"),
    ("NaN in a field unknown to us", body(extra=[1, [float("nan")]]), "not_finite", "/extra/1/0"),
    ("attribute beyond doubles", body().replace(b"1.5", b"1e999"), "wrong_type",
     "/attributes/score"),
    ("a number of 5000 digits", body().replace(b"1.5", b"1" * 5000), "wrong_type", "/attributes"),
    ("currency in small letters", body(amount={"value": 1, "currency": "eur"}), "wrong_type",
     "/amount/currency"),
    ("currency without a rate", body(amount={"value": 1, "currency": "XXX"}), "unknown_currency",
     "/amount/currency"),
    ("unknown type", body(event_type="teleport"), "unknown_event_type", "/event_type"),
    ("no timezone", body(event_time="2026-03-01T12:00:00"), "wrong_type", "/event_time"),
    ("time is a number", body(event_time=1_772_366_400), "wrong_type", "/event_time"),
    ("before 1970", body(event_time="1969-12-31T23:59:59Z"), "time_out_of_range", "/event_time"),
    ("ten years ahead", body(event_time="2036-03-01T12:00:00Z"), "time_in_future", "/event_time"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code", "pointer"), [row[1:] for row in BAD_EVENTS], ids=[row[0] for row in BAD_EVENTS]
)
def test_a_bad_event_is_refused_by_code_and_pointer(data: bytes, code: str, pointer: str) -> None:
    with pytest.raises(EventRejected) as caught:
        parse_event(data, RULES, NOW_MS)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)
    assert caught.value.detail


BAD_LABELS: list[tuple[str, bytes, str, str]] = [
    ("cut off", body(LABEL)[:-1], "malformed", ""),
    ("deep in a field unknown to us", b'{"a":' * 5_000, "malformed", ""),
    ("no event", body(LABEL, event_id=...), "missing_field", "/event_id"),
    ("another word", body(LABEL, label="maybe"), "wrong_type", "/label"),
    ("another source", body(LABEL, source="rumour"), "wrong_type", "/source"),
    ("another state", body(LABEL, state="half"), "wrong_type", "/state"),
    ("unknown type", body(LABEL, event_type="x"), "unknown_event_type", "/event_type"),
    ("in the future", body(LABEL, label_time="2026-04-01T00:00:00Z"), "time_in_future",
     "/label_time"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "code", "pointer"), [row[1:] for row in BAD_LABELS], ids=[row[0] for row in BAD_LABELS]
)
def test_a_bad_label_is_refused_by_code_and_pointer(data: bytes, code: str, pointer: str) -> None:
    with pytest.raises(EventRejected) as caught:
        parse_label(data, RULES, NOW_MS)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_a_label_speaks_about_the_event_of_its_identity() -> None:
    label = parse_label(body(LABEL), RULES, NOW_MS)
    assert identity_of(label) == identity_of(parse_event(body(), RULES, NOW_MS))
    assert label.label_time_ms == to_ms(datetime(2026, 3, 8, 23, tzinfo=UTC))


def test_skew_is_judged_by_the_time_of_arrival() -> None:
    at_ms = to_ms(datetime(2026, 3, 1, 12, 0, 0, 120_000, tzinfo=UTC))
    assert parse_event(body(), RULES, at_ms - 60_000).event_time_ms == at_ms
    with pytest.raises(EventRejected, match="event_time"):
        parse_event(body(), RULES, at_ms - 60_001)


def test_the_largest_event_taken_is_the_stated_one() -> None:
    spare = EVENT_MAX_BYTES - len(body(extra=""))
    assert parse_event(body(extra="x" * spare), RULES, NOW_MS)
    with pytest.raises(EventRejected, match="at most 65536"):
        parse_event(body(extra="x" * (spare + 1)), RULES, NOW_MS)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_refused(data: bytes) -> None:
    with pytest.raises(EventRejected):
        parse_event(data, RULES, NOW_MS)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*EVENT, "tenant"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)))  # fmt: skip
def test_any_document_is_an_event_or_refused_with_a_pointer_into_it(changes: Any) -> None:
    try:
        parse_event(json.dumps(EVENT | changes).encode(), RULES, NOW_MS)
    except EventRejected as rejected:
        assert rejected.pointer == "" or rejected.pointer.startswith("/")
        assert "..." not in rejected.pointer


@settings(deadline=None)
@given(st.integers(0, 4_000_000_000_000))
def test_an_instant_survives_its_milliseconds(at_ms: int) -> None:
    assert to_ms(from_ms(at_ms)) == at_ms


def test_names_do_not_run_into_each_other() -> None:
    assert identity("a", "b", "c") != identity("a", "bc", "")
    assert entity_key("t", "card", "x") == b"t\x1fcard\x1fx"
    assert 0 <= identity_hash("x") < 2**64
    assert decision_id("x") == decision_id("x") != decision_id("y")
    assert {partition_of(entity_key("t", "card", str(i)), 8) for i in range(200)} == set(range(8))


PIECES = st.sampled_from(["", "a", "card", "Card", "tok 9", "x\x7f", "n\n", "\\", "ü", "EUR", "eu"])
STRICT = msgspec.json.Decoder(event_wire.Event)


@given(
    entities=st.dictionaries(PIECES, PIECES, max_size=3),
    event_id=PIECES,
    tenant=PIECES,
    currency=PIECES,
    escaped=st.booleans(),
)
def test_the_quick_reading_takes_what_the_schema_takes_and_nothing_else(
    entities: dict[str, str], event_id: str, tenant: str, currency: str, escaped: bool
) -> None:
    event = EVENT | {
        "entities": EVENT["entities"] | entities,
        "event_id": event_id,
        "tenant": tenant,
        "amount": {"value": 1, "currency": currency},
    }
    sent = json.dumps(event, ensure_ascii=escaped).encode()
    try:
        wanted = STRICT.decode(sent)
    except msgspec.ValidationError:
        with pytest.raises(EventRejected) as refused:
            parse_event(sent, RULES, NOW_MS)
        assert refused.value.code == "wrong_type"
    else:
        if currency not in RULES.currencies:
            with pytest.raises(EventRejected, match="no rate"):
                parse_event(sent, RULES, NOW_MS)
            return
        parse_event(sent, RULES, NOW_MS)  # its names are known from now on
        got = parse_event(sent, RULES, NOW_MS)
        assert msgspec.to_builtins(got) == msgspec.to_builtins(wanted)
