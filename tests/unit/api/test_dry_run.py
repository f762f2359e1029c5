"""A dry run is answered as the event would be, and leaves no trace of itself."""

from tests.fakes_http import BODY, Site
from tests.fakes_serving import Stand

PATH = "/v1/decisions:dry-run"


def traces(stand: Stand) -> tuple[object, ...]:
    kept = stand.overlay._kept
    numbers = (kept._oldest, kept._next, kept._next_row, dict(kept._key_of))
    return (len(stand.log.records), dict(stand.claims.kept), *numbers, stand.repeats)


async def test_it_says_what_the_decision_would_be(site: Site) -> None:
    tried = (await site.post(PATH, BODY)).json()
    real = (await site.post("/v1/decisions", BODY)).json()
    assert (tried["status"], real["status"]) == ("dry_run", "new")
    for name in ("decision_id", "event_id", "outcome", "score", "policy", "model", "degraded"):
        assert tried[name] == real[name]


async def test_it_explains_whatever_the_outcome_is(site: Site) -> None:
    tried = (await site.post(PATH, BODY)).json()
    assert tried["reasons"], tried["outcome"]


async def test_it_leaves_nothing_behind(site: Site) -> None:
    await site.post("/v1/decisions", BODY | {"event_id": "before"})
    before, page = traces(site.stand), site.metrics.page()[0]
    for i in range(200):
        response = await site.post(PATH, BODY | {"event_id": f"e{i}"})
        assert response.status_code == 200
    assert traces(site.stand) == before
    counted = [
        line
        for line in site.metrics.page()[0].decode().splitlines()
        if line not in page.decode().splitlines() and not line.startswith("#")
    ]
    assert all("decisions:dry-run" in line for line in counted if line), counted


async def test_a_real_event_sees_no_dry_one_and_a_dry_one_sees_the_real(site: Site) -> None:
    def count_of(body: dict[str, object]) -> object:
        return body["score"]

    alone = (await site.post(PATH, BODY | {"event_id": "a"})).json()
    for i in range(5):
        await site.post(PATH, BODY | {"event_id": f"dry{i}"})
    again = (await site.post(PATH, BODY | {"event_id": "a"})).json()
    assert count_of(again) == count_of(alone)
    await site.post("/v1/decisions", BODY | {"event_id": "real"})
    after = (await site.post(PATH, BODY | {"event_id": "a"})).json()
    assert count_of(after) != count_of(alone)


async def test_a_repeat_of_what_was_decided_changes_nothing_either(site: Site) -> None:
    first = (await site.post("/v1/decisions", BODY)).json()
    tried = (await site.post(PATH, BODY)).json()
    assert tried["score"] == first["score"]
    again = (await site.post("/v1/decisions", BODY)).json()
    assert again == first | {"status": "duplicate"}
    other = (await site.post("/v1/decisions", BODY | {"event_id": "next"})).json()
    assert other["score"] != first["score"]  # it sees the first, which was not forgotten


async def test_what_is_at_fault_is_refused_as_ever(site: Site) -> None:
    response = await site.post(PATH, BODY | {"amount": None})
    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, "/amount")
