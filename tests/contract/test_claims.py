"""One suite for claims, on the fake always and on Redis with `-m live`."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from api.claims import Claim, Claims, ClaimsUnavailable
from api.claims_redis import RedisClaims
from features.client_redis import RedisLink, connect_redis
from tests.conftest import CONTRACT_PARAMS, UNDER_RIGHTS_OF, RedisOf
from tests.fakes_serving import MemoryClaims

A, B = b"a" * 16, b"b" * 16


@pytest.fixture(params=[*CONTRACT_PARAMS, UNDER_RIGHTS_OF["serve"]])
async def claims(request: pytest.FixtureRequest, redis_of: RedisOf) -> AsyncIterator[Claims]:
    if request.param == "memory":
        yield MemoryClaims()
        return
    connect, prefix = redis_of(request.param)
    client = connect()
    yield RedisClaims(RedisLink(client, piped=True), prefix, 30.0, 60.0, 10.0)
    await client.aclose()


async def states(claims: Claims, *wanted: Claim) -> list[str]:
    return [claimed.state for claimed in await claims.take_many(wanted)]


async def test_the_first_takes_and_the_second_sees_it_taken(claims: Claims) -> None:
    assert await states(claims, Claim("x", A), Claim("y", B)) == ["new", "new"]
    assert await states(claims, Claim("x", A), Claim("y", A)) == ["in_progress", "other_body"]


async def test_an_answer_is_given_to_every_repeat(claims: Claims) -> None:
    await claims.take_many([Claim("x", A)])
    await claims.finish_many([(Claim("x", A), b'{"answer": 1}')])
    for _ in range(2):
        [claimed] = await claims.take_many([Claim("x", A)])
        assert (claimed.state, claimed.answer) == ("done", b'{"answer": 1}')
    assert await states(claims, Claim("x", B)) == ["other_body"]


async def test_a_released_claim_can_be_taken_again(claims: Claims) -> None:
    await claims.take_many([Claim("x", A), Claim("y", A)])
    await claims.release_many([Claim("x", A)])
    assert await states(claims, Claim("x", B), Claim("y", A)) == ["new", "in_progress"]


async def test_of_many_who_ask_at_once_one_takes(claims: Claims) -> None:
    taken = await asyncio.gather(*(states(claims, Claim("x", A)) for _ in range(20)))
    assert sorted(state for [state] in taken) == ["in_progress"] * 19 + ["new"]


@pytest.mark.live
async def test_an_unfinished_claim_expires(redis_url: str, redis_prefix: str) -> None:
    client = connect_redis(redis_url)
    claims = RedisClaims(RedisLink(client, piped=True), redis_prefix, 0.2, 60.0, 10.0)
    assert await states(claims, Claim("x", A), Claim("y", A)) == ["new", "new"]
    await claims.finish_many([(Claim("y", A), b"kept")])
    async with asyncio.timeout(20):
        while await states(claims, Claim("x", A)) != ["new"]:  # noqa: ASYNC110 - with a deadline
            await asyncio.sleep(0.05)
    assert await states(claims, Claim("y", A)) == ["done"]
    await client.aclose()


async def test_a_store_that_is_not_there_is_named() -> None:
    client = connect_redis("redis://127.0.0.1:1/0")
    claims = RedisClaims(RedisLink(client, piped=True), "t:", 1.0, 1.0, 5.0)
    with pytest.raises(ClaimsUnavailable):
        await claims.take_many([Claim("x", A)])
    await client.aclose()
