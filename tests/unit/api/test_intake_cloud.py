"""Over HTTP a CloudEvent in each mode is the question that its data asks."""

import json
from typing import Any

import pytest

from api.intake import Caller, Intake
from features.cloud_event import http_attributes
from features.event import EventRejected, EventRules, EventType

RULES = EventRules({"card_payment": EventType("card")}, frozenset({"EUR"}))
NOW_MS = 1_772_366_400_000
PLAIN: dict[str, Any] = {
    "event_type": "card_payment",
    "event_id": "pay_1",
    "event_time": "2026-03-01T11:59:00.120Z",
    "entities": {"card": "tok_9"},
    "amount": {"value": 12550, "currency": "EUR"},
}
HEADERS = {
    b"ce-specversion": b"1.0",
    b"ce-id": b"pay_1",
    b"ce-source": b"/shop",
    b"ce-type": b"card_payment",
    b"ce-time": b"2026-03-01T11:59:00.120Z",
    b"content-type": b"application/json; charset=utf-8",
}
LITTLE = {"entities": PLAIN["entities"], "amount": PLAIN["amount"]}
CLOUD = Caller(cloud=http_attributes(HEADERS))


def intake() -> Intake:
    return Intake(RULES, lambda: NOW_MS)


def envelope(number: int) -> dict[str, Any]:
    named = {"specversion": "1.0", "id": f"pay_{number}", "source": "/s", "type": "card_payment"}
    return named | {"time": PLAIN["event_time"], "data": LITTLE}


def test_each_mode_asks_the_same_question() -> None:
    plain = intake().question(json.dumps(PLAIN).encode())
    binary = intake().question(json.dumps(LITTLE).encode(), None, CLOUD)
    structured = intake().question(json.dumps(envelope(1)).encode())
    assert plain.event == binary.event == structured.event
    assert plain.claim == binary.claim == structured.claim


def test_what_goes_to_the_log_can_be_read_without_the_headers() -> None:
    for read in (
        intake().question(json.dumps(LITTLE).encode(), None, CLOUD),
        intake().question(json.dumps(envelope(1)).encode()),
    ):
        assert intake().question(read.body).event == read.event
    [(event, body)] = intake().events(json.dumps(LITTLE).encode(), CLOUD)
    assert json.loads(body) == PLAIN
    assert event.event_id == "pay_1"


def test_a_batch_is_an_array_of_envelopes() -> None:
    batch = json.dumps([envelope(1), PLAIN | {"event_id": "pay_2"}, envelope(3)]).encode()
    names = ["pay_1", "pay_2", "pay_3"]
    assert [one.event.event_id for one in intake().questions(batch)] == names
    assert [event.event_id for event, _ in intake().events(batch)] == names


@pytest.mark.parametrize("lines", [False, True])
def test_headers_of_one_event_do_not_stand_over_a_list(lines: bool) -> None:
    caller = CLOUD._replace(lines=lines)
    body = b"[%b]" % json.dumps(LITTLE).encode() if not lines else json.dumps(LITTLE).encode()
    reads = [intake().events, intake().question_lines if lines else intake().questions]
    for read in reads:
        with pytest.raises(EventRejected, match="one event"):
            read(body, caller)  # type: ignore[operator]


def test_a_conflict_is_refused_by_name() -> None:
    with pytest.raises(EventRejected) as told:
        intake().question(json.dumps(PLAIN | {"event_id": "pay_2"}).encode(), None, CLOUD)
    assert (told.value.code, told.value.pointer) == ("conflict", "/id")
