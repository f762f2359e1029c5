"""Replay over HTTP: each card in order, patience with a busy service, none with a broken one."""

import asyncio
import json
from collections.abc import Callable

import httpx
import pytest

from pipeline.replay_http import ATTEMPTS_MAX, HttpTarget
from pipeline.replay_ports import Batch, TargetFailed
from pipeline.replay_rows import EVENT, LABEL

Answer = Callable[[httpx.Request], httpx.Response]


async def no_wait(duration_s: float) -> None:
    await asyncio.sleep(0)


async def target_of(answer: Answer) -> HttpTarget:
    transport = httpx.MockTransport(answer)
    target = HttpTarget("http://scorer/", transport=transport, sleep=no_wait)
    await target.start()
    return target


def batch(count: int, kinds: list[int] | None = None) -> Batch:
    bodies = [json.dumps({"n": n}).encode() for n in range(count)]
    keys = [b"card%d" % (n % 3) for n in range(count)]
    return Batch(100, kinds or [EVENT] * count, keys, bodies)


async def test_each_card_keeps_its_order_and_labels_follow_events() -> None:
    seen: list[tuple[str, int]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/healthz":
            seen.append((request.url.path, json.loads(request.content)["n"]))
        return httpx.Response(200)

    target = await target_of(answer)
    await target.send_many(batch(30, [LABEL if n % 5 == 0 else EVENT for n in range(30)]))
    await target.stop()
    assert sorted(n for _, n in seen) == list(range(30))
    for card in range(3):
        decided = [n for path, n in seen if n % 3 == card and path == "/v1/decisions"]
        assert decided == sorted(decided)
    paths = [path for path, _ in seen]
    assert paths == sorted(paths)  # decisions, then labels
    assert target.acked() == (130, {})


async def test_a_busy_service_is_asked_again() -> None:
    tries = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        if request.url.path == "/healthz":
            return httpx.Response(200)
        tries += 1
        if tries == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(503 if tries == 2 else 202, headers={"retry-after": "1"})

    target = await target_of(answer)
    await target.send_many(batch(1))
    await target.stop()
    assert tries == 3
    assert target.refused == 0


async def test_what_the_service_refuses_is_counted_and_passed_over() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        fault = request.url.path != "/healthz" and json.loads(request.content)["n"] == 1
        return httpx.Response(422 if fault else 200)

    target = await target_of(answer)
    await target.send_many(batch(3))
    await target.stop()
    assert target.refused == 1
    assert target.acked()[0] == 103


@pytest.mark.parametrize(("status", "attempts"), [(500, 1), (503, ATTEMPTS_MAX)])
async def test_a_broken_service_ends_the_replay(status: int, attempts: int) -> None:
    tries = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        if request.url.path == "/healthz":
            return httpx.Response(200)
        tries += 1
        return httpx.Response(status, text="oh")

    target = await target_of(answer)
    with pytest.raises(TargetFailed, match=f"item 100: POST /v1/decisions: {status} oh"):
        await target.send_many(batch(1))
    await target.stop()
    assert tries == attempts
    assert target.acked()[0] == 0


async def test_no_service_is_said_at_once() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(TargetFailed, match="http://scorer: ConnectError"):
        await target_of(answer)
