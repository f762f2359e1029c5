"""The door on the socket: any cut of the bytes, bounds of a connection, and leaving in peace."""

import asyncio
import itertools
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.coalesce import SPREAD
from api.door_exchange import DoorLimits
from pipeline.tls_files import TlsFiles
from tests.builders_tls import self_signed
from tests.door_http import Running, a_request, an_event, in_chunks, running, until
from tests.fakes_http import Site
from tests.fakes_serving import a_stand

QUICK = DoorLimits(
    head_max_bytes=1_000,
    headers_max=10,
    pipeline_max=2,
    head_timeout_s=0.05,
    body_timeout_s=0.05,
    idle_timeout_s=0.05,
    linger_s=0.05,
    drain_grace_s=0.0,
    connections_max=2,
)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    stand = a_stand(tmp_path)
    stand.load(1)
    await stand.publisher.try_log()
    site = Site(stand, deadline_s=30.0)
    yield site
    await site.client.aclose()


@pytest.fixture
async def door(site: Site) -> AsyncIterator[Running]:
    async with running(site) as server:
        yield server


@pytest.fixture
async def quick(site: Site) -> AsyncIterator[Running]:
    async with running(site, limits=QUICK) as server:
        yield server


REQUESTS = [
    (a_request(an_event("p1")), 200),
    (in_chunks(an_event("p2"), 50), 200),
    (a_request(b"{"), 400),
    (a_request(path="/healthz", method="GET"), 200),
    (in_chunks(b"x" * 300, 70, "/v1/nothing"), 404),
    (a_request(an_event("p1"), path="/v1/model"), 405),
    (a_request(b"x" * 100, path="/v1/features/card/c1"), 405),
    (a_request(an_event("p1"), Connection="Upgrade", Upgrade="h2c"), 200),
    (a_request(b"no", path="/v1/nothing", Connection="Upgrade", Upgrade="websocket"), 404),
]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    order=st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6),
    cuts=st.lists(st.integers(0, 2_000), max_size=12),
)
async def test_however_the_bytes_are_cut_the_answers_are_the_same(
    door: Running, order: list[tuple[bytes, int]], cuts: list[int]
) -> None:
    data = b"".join(request for request, _ in order)
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    wire = await door.connect()
    for begin, end in itertools.pairwise(places):
        wire.send(data[begin:end])
        for _ in range(3):  # the server shares this loop: it reads what was sent before the rest
            await asyncio.sleep(0)
    assert [(await wire.answer()).status for _ in order] == [status for _, status in order]
    await wire.close()


async def test_requests_beyond_those_at_work_wait_their_turn(site: Site, quick: Running) -> None:
    site.stand.log.acks.clear()
    wire = await quick.connect()
    wire.send(b"".join(a_request(an_event(f"p{i}")) for i in range(9)))
    await until(lambda: site.stand.log.waiting == 1)
    assert len(site.stand.claims.kept) == 2
    site.stand.log.acks.set()
    assert [(await wire.answer()).json()["event_id"] for _ in range(9)] == [
        f"p{i}" for i in range(9)
    ]


@pytest.mark.parametrize(
    ("beginning", "status"),
    [
        (b"POST /v1/deci", 408),
        (b"POST /v1/decisions HTTP/1.1\r\nX: y", 408),
        (a_request(b"").replace(b"Length: 0", b"Length: 9") + b"half", 408),
        (b"GET /" + b"a" * 2_000, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 2_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20, 431),
    ],
)
async def test_what_comes_too_slowly_or_too_largely_is_told_so_and_cut_off(
    quick: Running, beginning: bytes, status: int
) -> None:
    wire = await quick.connect()
    wire.send(beginning)
    refused = await wire.answer()
    assert (refused.status, refused.headers["connection"]) == (status, "close")
    assert refused.json()["status"] == status
    assert await wire.ended() == b""


async def test_a_head_without_end_does_not_fill_memory(quick: Running) -> None:
    wire = await quick.connect()
    wire.send(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(40):
        wire.send(b"a" * 100)
        await asyncio.sleep(0)
    assert (await wire.answer()).status == 431


async def test_a_quiet_connection_is_closed_without_a_word(quick: Running) -> None:
    wire = await quick.connect()
    assert await wire.ended() == b""
    wire = await quick.connect()
    wire.send(a_request(an_event("p1")))
    assert (await wire.answer()).status == 200
    assert await wire.ended() == b""


async def test_one_connection_too_many_is_told_so(site: Site) -> None:
    async with running(site, limits=DoorLimits(connections_max=1, drain_grace_s=0.0)) as door:
        first, second = await door.connect(), await door.connect()
        refused = await second.answer()
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        first.send(a_request(an_event("p1")))
        assert (await first.answer()).status == 200


async def test_a_refusal_reaches_a_peer_that_is_still_sending(door: Running) -> None:
    wire = await door.connect()
    wire.send(a_request(b"").replace(b"Length: 0", b"Length: 9000000"))
    refused = asyncio.create_task(wire.answer())
    for _ in range(90):
        wire.send(b" " * 10_000)
        await asyncio.sleep(0)
    assert (await refused).status == 413


async def test_a_peer_that_hung_up_is_not_worked_for(site: Site, door: Running) -> None:
    site.stand.log.acks.clear()
    first = await door.connect()
    busy = [await door.connect() for _ in range(SPREAD)]
    for i, wire in enumerate(busy):  # each its own batch: one question alone begins no more
        wire.send(a_request(an_event(f"busy{i}")))
        await until(lambda i=i: site.stand.log.waiting == i + 1)  # type: ignore[misc]
    first.send(a_request(an_event("gone")))
    await until(lambda: site.deps.coalescer.waiting == 1)
    await first.close()
    await until(lambda: len(door.server.server_state.connections) == SPREAD)
    site.stand.log.acks.set()
    for wire in busy:
        assert (await wire.answer()).status == 200
    assert site.deps.coalescer.waiting == 0
    assert len(site.stand.log.of("t.decisions.v1")) == SPREAD


async def test_who_asks_while_the_server_leaves_is_answered_and_told_to_go(site: Site) -> None:
    async with running(site, limits=DoorLimits(drain_grace_s=0.5)) as door:
        wire = await door.connect()
        wire.send(a_request(an_event("p1")))
        assert "connection" not in (await wire.answer()).headers
        door.server.should_exit = True
        await until(lambda: not door.server.servers[0].is_serving())
        wire.send(a_request(an_event("p2")))
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await wire.ended() == b""


async def test_what_came_before_a_quiet_connection_is_closed_is_answered(site: Site) -> None:
    async with running(site, limits=DoorLimits(drain_grace_s=0.0)) as door:
        wire = await door.connect()
        wire.send(a_request(an_event("p1")))
        await wire.answer()
        (connection,) = door.server.server_state.connections
        wire.send(a_request(an_event("p2")))  # lies in the kernel: the loop did not turn since
        connection.shutdown()
        connection.look(time.perf_counter() + 1.0)
        answer = await wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await wire.ended() == b""


async def test_a_deadline_that_passes_is_answered_in_time_and_the_decision_can_be_had(
    site: Site, door: Running
) -> None:
    site.stand.log.acks.clear()
    wire = await door.connect()
    wire.send(a_request(an_event("p1"), X_Deadline_Ms="20"))
    refused = await wire.answer()
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["type"] == "urn:riskbeat:problem:deadline"
    site.stand.log.acks.set()
    wire.send(a_request(an_event("p1")))
    answer = await wire.answer()
    assert (answer.status, answer.json()["status"]) == (200, "duplicate")
    assert len(site.stand.log.of("t.decisions.v1")) == 1


async def test_tls_is_spoken_with_a_certificate(site: Site, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "localhost")
    async with running(site, ssl_certfile=certificate, ssl_keyfile=key) as door:
        trusting = ssl.create_default_context(cafile=certificate)
        wire = await door.connect(ssl=trusting, server_hostname="localhost")
        for path, status in (("/v1/decisions", 200), ("/v1/nothing", 404)):
            wire.send(a_request(an_event("p1"), path))
            assert (await wire.answer()).status == status
        wire.send(a_request(b"").replace(b"Length: 0", b"Length: 9000000"))
        assert (await wire.answer()).status == 413
        plain = await door.connect()
        plain.send(a_request(an_event("p1")))
        assert await plain.ended() == b""


async def test_a_new_certificate_is_shown_to_who_comes_next(site: Site, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    old, new = self_signed(tmp_path, "localhost"), self_signed(tmp_path / "new", "localhost")
    before = ssl.create_default_context(cafile=old[0])
    after = ssl.create_default_context(cafile=new[0])
    async with running(site, ssl_certfile=old[0], ssl_keyfile=old[1]) as door:
        assert door.server.config.ssl is not None
        TlsFiles(*old).follow(door.server.config.ssl)
        held = await door.connect(ssl=before, server_hostname="localhost")
        for source, target in zip(new, old, strict=True):
            source.replace(target)
        late = await door.connect(ssl=after, server_hostname="localhost")
        for number, wire in enumerate((held, late)):
            wire.send(a_request(an_event(f"p{number}")))
            assert (await wire.answer()).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await door.connect(ssl=before, server_hostname="localhost")


async def test_answers_to_a_peer_that_reads_nothing_do_not_pile_up(site: Site) -> None:
    limits = DoorLimits(write_timeout_s=0.05, drain_grace_s=0.0)
    async with running(site, limits=limits) as door:
        wire = await door.connect(limit=1)
        wire.send(a_request(path="/openapi.json", method="GET") * 2_000)
        await until(lambda: not door.server.server_state.connections)
