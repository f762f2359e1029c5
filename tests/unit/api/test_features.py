"""Questions about features over HTTP, on a store in memory."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from api.features import READS_IN_FLIGHT_MAX
from api.questions import FEATURES_BATCH_MAX_BYTES, FEATURES_BATCH_MAX_ITEMS
from features.entity_features import EntityFeatures
from features.event import Event
from features.update import updates_of_events
from tests.fakes_http import Site
from tests.fakes_serving import NOW_MS, SPEC_TEXT, a_stand, an_event

MINUTE_MS = 60_000
NOW = "2026-03-01T12:00:00Z"
PAIRS = SPEC_TEXT.replace(
    "entities:\n", "entities:\n  pair:\n    key: [card, merchant]\n    count: [1h]\n"
)


@pytest.fixture
async def pairs(tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose spec has an entity with a composite key."""
    site = Site(a_stand(tmp_path, spec_text=PAIRS), deadline_s=30.0)
    yield site
    await site.client.aclose()


def store(site: Site, *events: Event) -> None:
    site.stand.states.apply(updates_of_events(site.stand.spec, events), 0, len(events))


async def ask(site: Site, path: str, status: int = 200) -> dict[str, Any]:
    response = await site.client.get(path)
    assert response.status_code == status, response.text
    kind = "application/json" if status == 200 else "application/problem+json"
    assert response.headers["content-type"] == kind
    found: dict[str, Any] = response.json()
    return found


async def test_an_answer_has_the_documented_shape(site: Site) -> None:
    store(site, an_event("e1", at_ms=NOW_MS - 20 * MINUTE_MS))
    answer = await ask(site, "/v1/features/card/c1")
    assert answer == {
        "entity": "card",
        "id": "c1",
        "tenant": "default",
        "at": NOW,
        "state": "known",
        "newest_event_at": "2026-03-01T11:40:00Z",
        "features": {
            "card.count_over_10m": 0.0,
            "card.count_over_1h": 1.0,
            "card.sum_of_amount_over_1h": 1000.0,
            "card.since_last": 1200.0,
            "card.distinct_merchant_over_1h": 1.0,
        },
        "missing": [],
        "late_question": False,
        "fresh_until": "2026-03-01T11:59:59.960000Z",
        "staleness_ms": 40,
        "stale": False,
        "spec_digest": site.stand.spec.digest,
    }
    unknown = await ask(site, "/v1/features/merchant/nobody")
    assert (unknown["state"], unknown["newest_event_at"]) == ("unknown", None)
    assert unknown["features"] == {
        "merchant.count_over_10m": 0.0,
        "merchant.mean_of_amount_over_1h": None,
    }
    assert unknown["missing"] == ["merchant.mean_of_amount_over_1h"]


async def test_it_is_evaluated_at_the_instant_asked(site: Site) -> None:
    store(site, *(an_event(f"e{i}", at_ms=NOW_MS - i * MINUTE_MS) for i in range(30)))

    async def count(at: str) -> float:
        answer = await ask(site, f"/v1/features/card/c1?at={at}")
        return float(answer["features"]["card.count_over_10m"])

    assert await count("2026-03-01T11:45:00Z") == 10
    assert await count("2026-03-01T12:45:00%2B01:00") == 10
    assert await count("2026-03-01T12:45:00+01:00") == 10  # a plus is a plus
    assert await count("2026-03-01T11:34:30Z") == 4
    answer = await ask(site, "/v1/features/card/c1?at=2026-03-01T11:34:30.0009Z")
    assert answer["late_question"] is True
    assert answer["at"] == "2026-03-01T11:34:30Z"  # whole milliseconds, as everywhere


@pytest.mark.parametrize("name", ["a/b", "a b", "ü+&?#%", "../card", "%2F", "名"])
async def test_ids_are_percent_decoded(site: Site, name: str) -> None:
    store(site, an_event("e1", card=name, merchant="m1"))
    quoted = "".join(f"%{byte:02X}" for byte in name.encode())
    answer = await ask(site, f"/v1/features/card/{quoted}")
    assert (answer["id"], answer["state"]) == (name, "known")


async def test_a_composite_key_takes_a_segment_for_each_part(pairs: Site) -> None:
    store(pairs, an_event("e1", card="c/1", merchant="m1"))
    answer = await ask(pairs, "/v1/features/pair/c%2F1/m1")
    assert (answer["id"], answer["state"]) == (["c/1", "m1"], "known")
    assert answer["features"] == {"pair.count_over_1h": 1.0}
    for path in ("pair/c%2F1", "pair/c%2F1/m1/x", "card/c1/m1"):
        problem = await ask(pairs, f"/v1/features/{path}", 422)
        assert problem["errors"][0]["pointer"] == "/id"
    assert "the key card + merchant" in (await ask(pairs, "/v1/features/pair/c1", 422))["detail"]


@pytest.mark.parametrize(
    ("path", "status", "code", "pointer"),
    [
        ("iban/x", 404, "unknown_entity", "/entity"),
        ("Card/x", 422, "wrong_type", "/entity"),
        ("card", 422, "missing_field", "/id"),
        ("card/", 422, "wrong_type", "/id"),
        ("card/%00", 422, "wrong_type", "/id"),
        ("card/" + "x" * 257, 422, "wrong_type", "/id"),
        ("card/%ff", 400, "malformed", "/id"),
        ("card/%zz", 400, "malformed", "/id"),
        ("card/a/b", 422, "wrong_key", "/id"),
        ("card/a//b/c/d/e", 422, "wrong_type", "/id"),
        ("card/x?at=yesterday", 422, "wrong_type", "/at"),
        ("card/x?at=2026-03-01T12:00:00", 422, "wrong_type", "/at"),
        ("card/x?at=1969-12-31T23:59:59Z", 422, "time_out_of_range", "/at"),
        ("card/x?at=2026-03-01T12:01:01Z", 422, "time_in_future", "/at"),
        ("card/x?att=2026-03-01T12:00:00Z", 422, "unknown_field", "/att"),
        ("card/x?tenant=", 422, "wrong_type", "/tenant"),
        ("card/x?tenant=a&tenant=b", 422, "wrong_type", "/tenant"),
        ("card/x?explain=yes", 422, "wrong_type", "/explain"),
    ],
)
async def test_what_cannot_be_answered_is_a_problem_that_names_its_place(
    site: Site, path: str, status: int, code: str, pointer: str
) -> None:
    problem = await ask(site, f"/v1/features/{path}", status)
    assert problem["status"] == status
    assert [(e["code"], e["pointer"]) for e in problem["errors"]] == [(code, pointer)]
    assert problem["errors"][0]["detail"]
    assert site.stand.states.calls == 0


async def test_many_are_answered_in_one_round_trip_and_in_order(pairs: Site) -> None:
    store(pairs, *(an_event(f"e{i}", card=f"c{i}", merchant="m1") for i in range(3)))
    questions: list[dict[str, Any]] = [
        {"entity": "card", "id": "c1"},
        {"entity": "pair", "id": ["c2", "m1"]},
        {"entity": "card", "id": "c1", "at": "2026-03-01T11:00:00Z"},
        {"entity": "merchant", "id": "m1"},
        {"entity": "card", "id": "c1", "tenant": "other"},
    ]
    response = await pairs.post("/v1/features:batch", questions)
    answers = response.json()["features"]
    assert pairs.stand.states.calls == 1
    assert [(a["entity"], a["id"]) for a in answers] == [(q["entity"], q["id"]) for q in questions]
    assert [a["state"] for a in answers] == ["known"] * 4 + ["unknown"]
    assert [a["late_question"] for a in answers] == [False, False, True, False, False]
    assert answers[3]["features"]["merchant.count_over_10m"] == 3
    single = await ask(pairs, "/v1/features/card/c1")
    assert answers[0] == single


async def test_a_batch_with_faults_names_each_and_answers_none(site: Site) -> None:
    good = {"entity": "card", "id": "c1"}
    bad = [good, good | {"at": "now"}, {"entity": "iban", "id": "x"}, good | {"when": 1}, 7]
    response = await site.post("/v1/features:batch", bad)
    assert response.status_code == 422
    errors = [(e["pointer"], e["code"]) for e in response.json()["errors"]]
    assert errors == [
        ("/1/at", "wrong_type"),
        ("/2/entity", "unknown_entity"),
        ("/3/when", "unknown_field"),
        ("/4", "wrong_type"),
    ]
    assert site.stand.states.calls == 0


async def test_a_batch_is_bounded(site: Site) -> None:
    question = {"entity": "card", "id": "c1"}
    full = await site.post("/v1/features:batch", [question] * FEATURES_BATCH_MAX_ITEMS)
    assert len(full.json()["features"]) == FEATURES_BATCH_MAX_ITEMS
    for count in (0, FEATURES_BATCH_MAX_ITEMS + 1):
        refused = await site.post("/v1/features:batch", [question] * count)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "too_many")
    large = await site.post("/v1/features:batch", b" " * (FEATURES_BATCH_MAX_BYTES + 1))
    assert large.status_code == 413
    assert (await site.post("/v1/features:batch", b"{")).status_code == 400
    assert (await site.post("/v1/features:batch?at=x", [question])).status_code == 422


async def test_an_absent_store_is_503_and_says_when_to_come_back(site: Site) -> None:
    site.stand.states.away = True
    response = await site.client.get("/v1/features/card/c1")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["type"] == "urn:riskbeat:problem:store_away"
    site.stand.states.away, site.stand.states.stuck = False, True
    slow = await site.client.get("/v1/features/card/c1")
    assert (slow.status_code, slow.headers["retry-after"]) == (503, "1")
    assert "no answer within 0.05 s" in slow.json()["detail"]


async def test_a_state_of_another_spec_is_503_not_a_wrong_number(site: Site) -> None:
    store(site, an_event("e1"))
    states = site.stand.states.states
    states.update({key: blob[:2] + bytes(8) + blob[10:] for key, blob in states.items()})
    response = await site.client.get("/v1/features/card/c1")
    assert response.status_code == 503
    assert response.json()["type"] == "urn:riskbeat:problem:features_unreadable"
    assert "another feature spec" in response.json()["detail"]


async def test_questions_beyond_the_bound_are_refused_at_once(site: Site) -> None:
    site.stand.states.stuck = True
    asked = [site.client.get("/v1/features/card/c1") for _ in range(READS_IN_FLIGHT_MAX + 3)]
    answers = await asyncio.gather(*asked)
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(429), statuses.count(503)) == (3, READS_IN_FLIGHT_MAX)
    site.stand.states.stuck = False
    assert (await site.client.get("/v1/features/card/c1")).status_code == 200


async def test_other_methods_and_a_closed_door_are_refused(site: Site) -> None:
    put = await site.client.put("/v1/features/card/c1")
    assert (put.status_code, put.headers["allow"]) == (405, "GET, HEAD")
    site.open = False
    assert (await site.client.get("/v1/features/card/c1")).status_code == 503


async def test_what_was_asked_is_counted_without_naming_anybody(site: Site) -> None:
    store(site, an_event("e1"))
    await ask(site, "/v1/features/card/c1")
    await ask(site, "/v1/features/card/secret-id")
    await ask(site, "/v1/features/card/c1?at=2026-03-01T10:00:00Z")
    await ask(site, "/v1/features/iban/x", 404)
    await site.post("/v1/features:batch", [{"entity": "card", "id": "c1"}] * 2)
    page = (await site.client.get("/metrics")).text
    assert 'riskbeat_http_requests_total{route="/v1/features",status="200"} 3.0' in page
    assert 'riskbeat_http_requests_total{route="/v1/features",status="404"} 1.0' in page
    assert 'riskbeat_http_requests_total{route="/v1/features:batch",status="200"} 1.0' in page
    assert 'riskbeat_entities_read_total{state="known"} 4.0' in page
    assert 'riskbeat_entities_read_total{state="unknown"} 1.0' in page
    assert "riskbeat_late_questions_total 1.0" in page
    assert 'riskbeat_features_request_seconds_count{route="/v1/features"} 4.0' in page
    assert "secret-id" not in page


async def test_the_documented_examples_are_what_the_routes_speak(site: Site) -> None:
    document = (await site.client.get("/openapi.json")).json()
    one = document["paths"]["/v1/features/{entity}/{id}"]["get"]
    example = one["responses"]["200"]["content"]["application/json"]["example"]
    assert msgspec.json.encode(msgspec.convert(example, EntityFeatures))
    answer = await ask(site, "/v1/features/card/c1")
    assert list(example) == list(answer)
    missing = [name for name, value in example["features"].items() if value is None]
    assert example["missing"] == missing
    batch = document["paths"]["/v1/features:batch"]["post"]["requestBody"]["content"]
    sent = await site.post("/v1/features:batch", batch["application/json"]["example"][:1])
    assert sent.status_code == 200


async def test_an_explained_answer_says_what_each_value_means(site: Site) -> None:
    answer = await ask(site, "/v1/features/card/c1?explain=true")
    assert list(answer["notes"]) == list(answer["features"])
    note = answer["notes"]["card.count_over_10m"]
    assert note["bound"] == site.stand.spec.feature_bounds["card.count_over_10m"]
    assert "notes" not in await ask(site, "/v1/features/card/c1?explain=false")
    many = await site.post("/v1/features:batch?explain=true", [{"entity": "card", "id": "c1"}])
    assert many.json()["features"][0]["notes"] == answer["notes"]


async def test_a_path_that_was_encoded_where_it_must_not_be_is_no_route(site: Site) -> None:
    url = httpx.URL("http://test").copy_with(raw_path=b"/v1%2Ffeatures/card/c1")
    response = await site.client.get(url)
    assert response.status_code == 404
    assert json.loads(response.text)["status"] == 404
