"""What many askers say to Redis over one connection: each gets its own answers, come what may."""

import asyncio

import hiredis
import pytest
from redis.exceptions import ConnectionError as ConnectionLost
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from features import pipe_redis
from features.client_redis import RedisLink, connect_redis
from features.pipe_redis import Pipe
from features.store import StoreUnavailable

pytestmark = pytest.mark.live
PATIENCE_S = 10.0
LOOKS = 1_000


def packed(*commands: tuple[bytes, ...]) -> bytes:
    return b"".join(map(hiredis.pack_command, commands))


async def test_each_asker_gets_its_own_answers_and_a_refused_command_is_its_error(
    redis_url: str,
) -> None:
    client = connect_redis(redis_url)
    pipe = Pipe(client)
    asked = [pipe.exchange(packed((b"ECHO", b"%d" % n), (b"ECHO", b"again")), 2) for n in range(50)]
    refused = pipe.exchange(packed((b"NONSENSE",)), 1)
    *found, [error] = await asyncio.gather(*asked, refused)
    assert found == [[b"%d" % n, b"again"] for n in range(50)]
    assert isinstance(error, ResponseError)
    await client.aclose()


async def test_who_stops_waiting_takes_no_answer_from_the_others(redis_url: str) -> None:
    client, other = connect_redis(redis_url), connect_redis(redis_url)
    pipe = Pipe(client)
    assert await pipe.exchange(packed((b"ECHO", b"before")), 1) == [b"before"]
    await other.execute_command("CLIENT", "PAUSE", "400", "ALL")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await pipe.exchange(packed((b"ECHO", b"impatient")), 1)
    async with asyncio.timeout(PATIENCE_S):
        assert await pipe.exchange(packed((b"ECHO", b"patient")), 1) == [b"patient"]
    await client.aclose()
    await other.aclose()


async def test_a_server_that_is_silent_for_too_long_fails_all_and_is_asked_anew(
    redis_url: str,
) -> None:
    client, other = connect_redis(redis_url, timeout_s=0.2), connect_redis(redis_url)
    pipe = Pipe(client)
    assert await pipe.exchange(packed((b"ECHO", b"before")), 1) == [b"before"]
    await other.execute_command("CLIENT", "PAUSE", "600", "ALL")
    late = [pipe.exchange(packed((b"ECHO", b"late")), 1) for _ in range(3)]
    for outcome in await asyncio.gather(*late, return_exceptions=True):
        assert isinstance(outcome, RedisTimeout)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                assert await pipe.exchange(packed((b"ECHO", b"after")), 1) == [b"after"]
                break
            except (RedisTimeout, ConnectionLost):
                await asyncio.sleep(0.05)
    await client.aclose()
    await other.aclose()


async def test_a_connection_that_the_server_closed_is_made_anew(redis_url: str) -> None:
    client, other = connect_redis(redis_url), connect_redis(redis_url)
    link = RedisLink(client, piped=True)
    [name] = await link.send_many([("CLIENT", "ID")])
    assert await other.execute_command("CLIENT", "KILL", "ID", name) == 1
    for _ in range(LOOKS):
        try:
            assert await link.send_many([("ECHO", "still here")]) == [b"still here"]
            break
        except StoreUnavailable:
            await asyncio.sleep(0.01)
    await client.aclose()
    await other.aclose()


async def test_more_than_may_wait_is_refused_at_once(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe_redis, "WAITING_MAX", 2)
    client = connect_redis(redis_url)
    pipe = Pipe(client)
    await pipe.exchange(packed((b"PING",)), 1)
    asked = [pipe.exchange(packed((b"PING",)), 1) for _ in range(3)]
    *taken, refused = await asyncio.gather(*asked, return_exceptions=True)
    assert taken == [[b"PONG"]] * 2
    assert isinstance(refused, RedisTimeout)
    await client.aclose()
