"""The HTTP door: shapes, repeats, batches, and what it shows of itself."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.intake import Intake
from api.metrics import ServeMetrics
from features.event import identity
from tests.fakes_http import BODY, Site
from tests.fakes_serving import NOW_MS, a_stand

LABELS = {
    "outcome",
    "basis",
    "door",
    "part",
    "gate",
    "kind",
    "route",
    "status",
    "code",
    "le",
    "state",
}


async def test_a_decision_has_the_documented_shape(site: Site) -> None:
    response = await site.post("/v1/decisions", BODY)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    answer = response.json()
    assert list(answer) == [
        "decision_id",
        "event_id",
        "status",
        "outcome",
        "score",
        "reasons",
        "rules",
        "policy",
        "model",
        "shadow",
        "rollout",
        "features",
        "degraded",
        "timings_ms",
        "propensity",
        "passed_through",
        "would_be",
    ]
    assert list(answer["score"]) == ["value", "percentile", "risk_level"]
    assert list(answer["model"]) == ["name", "version", "age_ms", "schema"]
    assert list(answer["features"]) == ["as_of", "staleness_ms", "missing"]
    assert list(answer["timings_ms"]) == ["features", "model", "total"]
    assert answer["decision_id"].startswith("dec_")


async def test_a_repeat_and_a_contradiction(site: Site) -> None:
    first = (await site.post("/v1/decisions", BODY)).json()
    again = (await site.post("/v1/decisions", BODY)).json()
    assert again == first | {"status": "duplicate"}
    other = await site.post("/v1/decisions", BODY | {"attributes": {"mcc": "1"}})
    assert other.status_code == 422
    assert other.json()["type"] == "urn:riskbeat:problem:idempotency_conflict"
    keyed = await site.post("/v1/decisions", BODY | {"event_id": "b"}, Idempotency_Key="k")
    clash = await site.post("/v1/decisions", BODY | {"event_id": "c"}, Idempotency_Key="k")
    assert (keyed.status_code, clash.status_code) == (200, 422)
    long_key = await site.post("/v1/decisions", BODY, Idempotency_Key="k" * 300)
    assert long_key.status_code == 422


async def test_an_unanswered_claim_of_somebody_else_is_409_for_now(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    site = Site(stand, deadline_s=0.02)
    intake = Intake(stand.spec.event_rules, lambda: NOW_MS)
    await stand.claims.take_many([intake.question(json.dumps(BODY).encode()).claim])
    response = await site.post("/v1/decisions", BODY)
    assert response.status_code == 409
    assert response.headers["retry-after"] == "1"
    await site.client.aclose()


async def test_a_batch_is_answered_in_order(site: Site) -> None:
    events = [BODY | {"event_id": f"p{i % 900}"} for i in range(1000)]
    response = await site.post("/v1/decisions:batch", events)
    decisions = response.json()["decisions"]
    assert [d["event_id"] for d in decisions] == [e["event_id"] for e in events]
    assert [d["status"] for d in decisions].count("duplicate") == 100


async def test_a_batch_with_faults_names_each_and_decides_none(site: Site) -> None:
    events = [BODY, BODY | {"amount": None}, BODY, {"event_type": 1}]
    response = await site.post("/v1/decisions:batch", events)
    assert response.status_code == 422
    pointers = [error["pointer"] for error in response.json()["errors"]]
    assert pointers == ["/1/amount", "/3/event_type"]
    assert site.stand.log.records == []
    for size in (0, 1001):
        refused = await site.post("/v1/decisions:batch", [BODY] * size if size < 9 else [{}] * size)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "too_many")


async def test_events_and_labels_go_to_their_topics(site: Site) -> None:
    one = await site.post("/v1/events", BODY)
    many = await site.post("/v1/events", [BODY | {"event_id": f"p{i}"} for i in range(3)])
    assert (one.status_code, many.status_code) == (202, 202)
    assert one.json()["decision_id"].startswith("dec_")
    assert many.json() == {"accepted": 3}
    events = site.stand.log.of("t.events.v1")
    assert len(events) == 4
    assert {(e.key, e.headers) for e in events} == {(b"default\x1fcard\x1ftok_9", ())}
    label = {
        "event_type": "card_payment",
        "event_id": "pay_8842",
        "label": "fraud",
        "source": "chargeback",
        "label_time": "2026-03-01T11:00:00Z",
    }
    assert (await site.post("/v1/labels", label)).json() == {"accepted": 1}
    assert (await site.post("/v1/labels", [label, label])).json() == {"accepted": 2}
    bad = await site.post("/v1/labels", [label, label | {"label": "maybe"}])
    assert (bad.status_code, bad.json()["errors"][0]["pointer"]) == (422, "/1/label")
    labels = site.stand.log.of("t.labels.v1")
    assert [r.key for r in labels] == [identity("default", "card_payment", "pay_8842").encode()] * 3


async def test_a_closed_door_says_when_to_come_back(site: Site) -> None:
    site.open = False
    response = await site.post("/v1/decisions", BODY)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert (await site.client.get("/readyz")).status_code == 503
    assert (await site.client.get("/healthz")).status_code == 200


async def test_a_full_spool_is_503(site: Site) -> None:
    site.stand.log.away = True
    statuses = [
        (await site.post("/v1/decisions", BODY | {"event_id": f"p{i}"})).status_code
        for i in range(10)
    ]
    assert statuses[0] == 200
    assert statuses[-1] == 503


async def test_a_fault_of_ours_is_a_fixed_500_and_is_raised(site: Site) -> None:
    def broken(*_: object) -> list[bytes]:
        raise ZeroDivisionError("secret detail")

    site.stand.decider.decide = broken  # type: ignore[assignment,method-assign]
    with pytest.raises(ZeroDivisionError):
        await site.post("/v1/decisions", BODY)
    quiet = httpx.ASGITransport(site.client._transport.app, raise_app_exceptions=False)  # type: ignore[attr-defined]
    async with httpx.AsyncClient(transport=quiet, base_url="http://test") as client:
        response = await client.post("/v1/decisions", json=BODY | {"event_id": "x"})
    assert response.status_code == 500
    assert "secret" not in response.text


async def test_what_is_shown_of_the_model(site: Site) -> None:
    active = (await site.client.get("/v1/model")).json()["active"]
    assert (active["version"], active["schema"]) == (1, site.stand.spec.digest)
    versions = (await site.client.get("/v1/model/versions")).json()
    assert versions == {
        "latest": 7,
        "active": 6,
        "pinned": True,
        "scorers": {"scorer-1": 6},
        "spread": 0,
        "behind": 0,
        "here": {"active": 1},
    }
    site.shelf.away = True
    assert (await site.client.get("/v1/model/versions")).status_code == 503


async def test_metrics_count_decisions_by_outcome_and_answers_by_status(site: Site) -> None:
    await site.post("/v1/decisions", BODY)
    await site.post("/v1/decisions", b"{")
    page = (await site.client.get("/metrics")).text
    assert 'riskbeat_http_requests_total{route="/v1/decisions",status="200"} 1.0' in page
    assert 'riskbeat_http_requests_total{route="/v1/decisions",status="400"} 1.0' in page
    assert 'riskbeat_decision_seconds_bucket{door="http",le="0.1"}' in page


async def test_the_documentation_covers_every_route_and_its_schemas_resolve(site: Site) -> None:
    document = (await site.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == {
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/model",
        "/v1/model/versions",
        "/v1/model/rollout",
        "/v1/decisions",
        "/v1/decisions:batch",
        "/v1/decisions:dry-run",
        "/v1/decisions/{decision_id}",
        "/v1/model/acts",
        "/v1/model/pin",
        "/v1/model/rollback",
        "/v1/model/unpin",
        "/v1/events",
        "/v1/labels",
        "/v1/features/{entity}/{id}",
        "/v1/features:batch",
    }
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]


async def test_an_unknown_route_is_404(site: Site) -> None:
    for refused in (
        await site.client.post("/v1/nothing"),
        await site.client.get("/v1/features"),
        await site.client.get("/v1/decisions%20"),
    ):
        assert refused.status_code == refused.json()["status"] == 404
        assert refused.headers["content-type"] == "application/problem+json"


async def test_a_method_that_a_route_does_not_take_is_405_and_says_which_it_takes(
    site: Site,
) -> None:
    for method, path, allowed in (
        ("GET", "/v1/decisions", "POST"),
        ("HEAD", "/v1/decisions", "POST"),
        ("GET", "/v1/features:batch", "POST"),
        ("POST", "/v1/features/card/tok_9", "GET, HEAD"),
        ("DELETE", "/v1/model", "GET"),
    ):
        refused = await site.client.request(method, path)
        assert (refused.status_code, refused.headers["allow"]) == (405, allowed)
        assert refused.headers["content-type"] == "application/problem+json"
        assert bool(refused.content) == (method != "HEAD")


async def test_head_is_get_without_its_body(site: Site) -> None:
    for path in ("/healthz", "/v1/features/card/tok_9"):
        full = await site.client.get(path)
        head = await site.client.head(path)
        assert (head.status_code, head.content) == (full.status_code, b"") == (200, b"")
        assert head.headers["content-type"] == full.headers["content-type"]


async def test_the_gate_is_asked_before_the_body_is_read_whatever_the_route(site: Site) -> None:
    site.gate.refused = "x-stranger"
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(8):
            sent += 1
            yield b" "

    for path in ("/v1/decisions", "/v1/nothing", "/v1/features:batch"):
        refused = await site.client.post(path, content=body(), headers={"x-stranger": "1"})
        assert (refused.status_code, refused.headers["x-seen"]) == (429, path)
    assert sent <= 3  # httpx has the first part ready before it asks
    answered = await site.post("/v1/decisions", BODY)
    assert (answered.status_code, answered.headers["x-seen"]) == (200, "/v1/decisions")


@pytest.mark.parametrize("deadline", ["", "0", "-1", "soon", "1e3", "nan", "9" * 13])
async def test_a_deadline_that_is_none_is_refused(site: Site, deadline: str) -> None:
    refused = await site.post("/v1/decisions", BODY, x_deadline_ms=deadline)
    assert refused.status_code == 422
    assert "X-Deadline-Ms" in refused.json()["errors"][0]["detail"]


def test_metric_names_follow_the_convention() -> None:
    for family in ServeMetrics().registry.collect():
        assert family.name.startswith("riskbeat_")
        assert family.documentation.endswith(".")
        assert {name for sample in family.samples for name in sample.labels} <= LABELS


@pytest.mark.parametrize("key", ["", " ", "two words", "naïve", "x" * 257])
async def test_an_idempotency_key_that_others_would_read_otherwise_is_refused(
    site: Site, key: str
) -> None:
    headers = {"Idempotency-Key": key.encode("latin-1")}
    refused = await site.client.post("/v1/decisions", json=BODY, headers=headers)
    assert refused.status_code == 422
    assert "Idempotency-Key" in refused.json()["detail"]
