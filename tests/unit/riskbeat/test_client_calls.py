"""What a client does beside asking: its key, its patience, many at once, tries and lookups."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from api.lookup import Indexed, key_of
from riskbeat.client import AsyncClient, Client, Decision, Problem, RequestRefused
from riskbeat.client import ServiceUnavailable as Unavailable
from tests.fakes_http import BODY, Site
from tests.fakes_serving import a_stand


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    stand = a_stand(tmp_path)
    stand.load(1)
    await stand.publisher.try_log()
    site = Site(stand, deadline_s=30.0)
    yield site
    await site.client.aclose()


async def test_many_are_decided_in_order_and_faults_stand_alone(site: Site) -> None:
    async with AsyncClient("http://test", transport=site.client._transport) as client:
        good, bad = BODY | {"event_id": "good"}, BODY | {"amount": None}
        first, second, third = await client.decide_many([good, bad, BODY])
    assert isinstance(first, Decision) and first.event_id == "good"
    assert isinstance(second, Problem) and second.errors[0].pointer == "/amount"
    assert isinstance(third, Decision) and third.event_id == BODY["event_id"]


async def test_a_try_and_a_lookup(site: Site) -> None:
    async with AsyncClient("http://test", transport=site.client._transport) as client:
        tried = await client.dry_run(BODY)
        assert tried.status == "dry_run"
        with pytest.raises(RequestRefused, match="404"):
            await client.decision(tried.decision_id)
        made = await site.post("/v1/decisions", BODY)
        key = key_of(tried.decision_id)
        assert key is not None
        site.index.kept[key] = Indexed("default", made.content)
        assert (await client.decision(tried.decision_id)).status == "new"


class Busy(httpx.BaseTransport):
    """Says "later" so many times, then answers; remembers what came."""

    def __init__(self, times: int, wait: str = "0") -> None:
        self.left = times
        self.wait = wait
        self.seen: list[httpx.Request] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        self.left -= 1
        if self.left >= 0:
            return httpx.Response(429, headers={"retry-after": self.wait})
        return httpx.Response(202, json={"accepted": 0})


def test_a_key_goes_with_every_request() -> None:
    busy = Busy(0)
    with Client("http://test", key="rb_x", transport=busy) as client:
        client.labels([])
    assert busy.seen[0].headers["authorization"] == "Bearer rb_x"


def test_what_may_be_taken_later_is_sent_again_so_many_times() -> None:
    busy = Busy(2)
    with Client("http://test", retries=2, transport=busy) as client:
        assert client.labels([]) == 0
    assert len({request.content for request in busy.seen}) == 1
    assert len(busy.seen) == 3
    with Client("http://test", retries=1, transport=Busy(2)) as client, pytest.raises(Unavailable):
        client.labels([])


def test_a_wait_that_is_too_long_is_the_callers() -> None:
    busy = Busy(1, wait="3600")
    with Client("http://test", retries=5, transport=busy) as client, pytest.raises(Unavailable):
        client.labels([])
    assert len(busy.seen) == 1
