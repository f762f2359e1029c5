"""What HTTP/1.1 promises, on real sockets, of both faces of the door: on the socket, and ASGI."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.intake import BATCH_MAX_BYTES
from features.event import EVENT_MAX_BYTES
from tests.door_http import Running, Wire, a_request, an_event, in_chunks, running, until
from tests.fakes_http import Site
from tests.fakes_serving import a_stand


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    stand = a_stand(tmp_path)
    stand.load(1)
    await stand.publisher.try_log()
    site = Site(stand, deadline_s=30.0)
    yield site
    await site.client.aclose()


@pytest.fixture(params=["socket", "asgi"])
async def door(request: pytest.FixtureRequest, site: Site) -> AsyncIterator[Running]:
    async with running(site, request.param) as server:
        yield server


@pytest.fixture
async def wire(door: Running) -> Wire:
    return await door.connect()


async def test_a_connection_serves_hot_and_cold_routes_in_turn(wire: Wire) -> None:
    for turn in range(3):
        wire.send(a_request(an_event(f"p{turn}")))
        answer = await wire.answer()
        assert (answer.status, answer.json()["event_id"]) == (200, f"p{turn}")
        assert answer.headers["content-type"] == "application/json"
        assert {"date", "x-seen"} <= set(answer.headers)
        wire.send(a_request(path="/healthz", method="GET"))
        healthy = await wire.answer()
        assert (healthy.json(), healthy.headers["x-seen"]) == ({"status": "ok"}, "/healthz")


async def test_pipelined_requests_are_answered_in_their_order(wire: Wire) -> None:
    asked = [f"p{i}" for i in range(200)]
    data = b""
    for i, name in enumerate(asked):
        data += a_request(an_event(name))
        if i % 7 == 0:
            data += a_request(path=f"/v1/nothing/{name}", method="GET")
        if i % 11 == 0:
            data += a_request(b"{", path="/v1/labels")
    wire.send(data)
    for i, name in enumerate(asked):
        assert (await wire.answer()).json()["event_id"] == name
        if i % 7 == 0:
            refused = await wire.answer()
            assert (refused.status, refused.headers["x-seen"]) == (404, f"/v1/nothing/{name}")
        if i % 11 == 0:
            assert (await wire.answer()).status == 400


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
async def test_a_chunked_body_is_one_body(wire: Wire, size: int) -> None:
    wire.send(in_chunks(an_event("p1"), size) + in_chunks(b"[]", 1, "/v1/decisions:batch"))
    assert (await wire.answer()).json()["event_id"] == "p1"
    assert (await wire.answer()).json()["errors"][0]["code"] == "too_many"


async def test_a_body_waits_for_leave_where_its_sender_asks_for_it(wire: Wire) -> None:
    body = an_event("p1")
    head = a_request(b"", Expect="100-continue").replace(b"Length: 0", b"Length: %d" % len(body))
    wire.send(head)
    assert (await wire.answer()).status == 100
    wire.send(body)
    assert (await wire.answer()).json()["event_id"] == "p1"


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(door: Running) -> None:
    for expecting in ({}, {"Expect": "100-continue"}):
        wire = await door.connect()
        wire.send(a_request(b"", **expecting).replace(b"Length: 0", b"Length: 9000000"))
        refused = await wire.answer()
        assert (refused.status, refused.json()["title"]) == (413, "The body is too large")


async def test_chunks_beyond_the_limit_are_refused_while_they_come(wire: Wire) -> None:
    head = b"POST /v1/decisions HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.send(head + (b"4000\r\n" + b" " * 0x4000 + b"\r\n") * (EVENT_MAX_BYTES // 0x4000 + 2))
    assert (await wire.answer()).status == 413


async def test_head_has_no_body_and_a_wrong_method_says_which_is_right(wire: Wire) -> None:
    for method, path, status in (
        ("HEAD", "/healthz", 200),
        ("HEAD", "/v1/features/card/tok_9", 200),
        ("HEAD", "/v1/decisions", 405),
        ("PUT", "/v1/decisions", 405),
        ("DELETE", "/v1/model", 405),
        ("GET", "/v1/nowhere", 404),
        ("OPTIONS", "*", 404),
    ):
        wire.send(a_request(path=path, method=method))
        answer = await wire.answer(method)
        assert (answer.status, answer.status == 405) == (status, "allow" in answer.headers)
        if status != 200:
            assert answer.headers["content-type"] == "application/problem+json"


async def test_a_target_may_be_a_whole_url(wire: Wire) -> None:
    for target in ("http://test/v1/decisions", "http://test/v1/decisions?x=1", "/v1/decisions?x"):
        wire.send(a_request(an_event("p1"), target))
        assert (await wire.answer()).status == 200


async def test_a_peer_that_closes_after_the_answer_is_obeyed(door: Running) -> None:
    for version, connection in (("1.1", "close"), ("1.0", "")):
        wire = await door.connect()
        asked = (
            a_request(an_event("p1"), Connection=connection)
            if connection
            else a_request(an_event("p1"))
        )
        wire.send(asked.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await wire.ended() == b""


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"POST /v1/decisions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/decisions HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/decisions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/decisions HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00" * 100,
    ],
)
async def test_what_is_no_request_is_refused_and_cut_off(door: Running, noise: bytes) -> None:
    wire = await door.connect()
    wire.send(a_request(an_event("p1")))
    assert (await wire.answer()).status == 200
    wire.send(noise)
    assert (await wire.answer()).status == 400
    assert await wire.ended() == b""


async def test_a_stop_answers_what_was_asked_and_leaves(site: Site, door: Running) -> None:
    site.stand.log.acks.clear()
    busy, quiet = await door.connect(), await door.connect()
    quiet.send(a_request(path="/healthz", method="GET"))
    assert (await quiet.answer()).status == 200
    busy.send(a_request(an_event("p1")))
    await until(lambda: site.stand.log.waiting == 1)
    door.server.should_exit = True
    await until(lambda: not door.server.servers[0].is_serving())
    site.stand.log.acks.set()
    assert (await busy.answer()).json()["event_id"] == "p1"
    assert await busy.ended() == await quiet.ended() == b""
    await door.gone
    with pytest.raises(ConnectionRefusedError):
        await door.connect()


async def test_bodies_up_to_the_limit_are_taken(wire: Wire) -> None:
    body = an_event("p1")
    wire.send(a_request(body + b" " * (EVENT_MAX_BYTES - len(body))))
    assert (await wire.answer()).status == 200
    wire.send(a_request(b" " * BATCH_MAX_BYTES, "/v1/decisions:batch"))
    assert (await wire.answer()).status == 400
