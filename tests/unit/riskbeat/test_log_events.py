"""What our sources write to the log is what the page says, and never a payload."""

import ast
import re

import pytest

from features.event import Event, Label
from tests.log_events import OF_ELSEWHERE, ROOT, Call, calls, table

PAGE = ROOT / "docs" / "logs.md"
IDS = {"event_id", "event_type", "tenant"}
PAYLOAD = (
    {*Event.__struct_fields__, *Label.__struct_fields__}
    | {"event", "label", "body", "payload", "value", "vector", "blob", "state_bytes", "entity"}
    | {"card", "merchant", "ip", "password", "secret", "token", "x", "X"}
) - IDS
CALLS = list(calls())


def test_the_page_lists_every_event_and_no_other() -> None:
    assert table() in PAGE.read_text(), "make it anew: python -m tests.log_events"


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.place)
def test_a_line_names_its_event_and_holds_no_payload(call: Call) -> None:
    if call.event:
        assert re.fullmatch(r"[a-z_]+\.[a-z_]+", call.event)
        assert len(call.values) == len(call.fields) + 1, "a name, and fields by name"
    else:
        assert {field.removeprefix("…") for field in call.fields} <= OF_ELSEWHERE
    assert not PAYLOAD & set(call.fields)
    for value in call.values:
        for node in ast.walk(value):
            word = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
            assert word not in PAYLOAD or ast.unparse(value).startswith("event."), word
