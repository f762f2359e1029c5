"""Bad bodies: refused early, by the right status, with the pointer of the field at fault."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.intake import BATCH_MAX_BYTES
from tests.fakes_http import BODY, Site


def without(field: str) -> dict[str, Any]:
    return {name: value for name, value in BODY.items() if name != field}


def costing(value: Any, currency: str = "EUR") -> dict[str, Any]:
    return BODY | {"amount": {"value": value, "currency": currency}}


NAN = json.dumps(BODY).replace("12550", "NaN").encode()
LATER = BODY | {"event_time": "2036-03-01T12:00:00Z"}
ZONELESS = BODY | {"event_time": "2026-03-01T12:00:00"}
BAD_EVENTS: list[tuple[str, Any, int, str, str]] = [
    ("no JSON", b"{not json", 400, "", "malformed"),
    ("no body", b"", 400, "", "malformed"),
    ("deep in a field unknown to us", b'{"a":' * 5_000, 400, "", "malformed"),
    ("a missing field", without("event_id"), 422, "/event_id", "missing_field"),
    ("a missing entity", BODY | {"entities": {"ip": "i"}}, 422, "/entities/card", "missing_field"),
    ("a missing amount", without("amount"), 422, "/amount", "missing_field"),
    ("a wrong type", costing("12"), 422, "/amount/value", "wrong_type"),
    ("a fraction of a cent", costing(1.5), 422, "/amount/value", "wrong_type"),
    ("an unknown currency", costing(1, "XAU"), 422, "/amount/currency", "unknown_currency"),
    ("ten years ahead", LATER, 422, "/event_time", "time_in_future"),
    ("no time zone", ZONELESS, 422, "/event_time", "wrong_type"),
    ("an unknown type", BODY | {"event_type": "x"}, 422, "/event_type", "unknown_event_type"),
    ("NaN", NAN, 422, "/amount/value", "not_finite"),
    ("not an object", b"[1]", 422, "", "wrong_type"),
]


@pytest.mark.parametrize(
    ("body", "status", "pointer", "code"),
    [row[1:] for row in BAD_EVENTS],
    ids=[row[0] for row in BAD_EVENTS],
)
async def test_a_bad_event_is_refused_with_the_fields_pointer(
    site: Site, body: Any, status: int, pointer: str, code: str
) -> None:
    for path in ("/v1/decisions", "/v1/events"):
        if path == "/v1/events" and body == b"[1]":
            continue  # a list is welcome there
        response = await site.post(path, body)
        problem = response.json()
        assert response.status_code == problem["status"] == status
        assert response.headers["content-type"] == "application/problem+json"
        [error] = problem["errors"]
        assert (error["pointer"], error["code"]) == (pointer, code)
        assert error["detail"]
    assert site.stand.log.records == []


@pytest.mark.parametrize("path", ["/v1/decisions", "/v1/decisions:batch", "/v1/events"])
async def test_two_megabytes_are_refused(site: Site, path: str) -> None:
    response = await site.post(path, b" " * 2_000_000)
    assert (response.status_code, response.json()["title"]) == (413, "The body is too large")


async def test_a_large_body_of_unknown_length_is_not_read_to_its_end(site: Site) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * BATCH_MAX_BYTES:
            sent += 10_000
            yield b" " * 10_000

    response = await site.client.post("/v1/decisions", content=endless())
    assert response.status_code == 413
    assert sent <= 2 * BATCH_MAX_BYTES


@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize(
    "path", ["/v1/decisions:batch", "/v1/decisions:dry-run", "/v1/labels", "/v1/features:batch"]
)
async def test_what_is_nested_without_end_is_refused(site: Site, path: str, opening: str) -> None:
    for body in (opening * 5_000, "[" + opening * 5_000):
        response = await site.post(path, body.encode())
        assert response.status_code in {400, 422}
        assert response.headers["content-type"] == "application/problem+json"
