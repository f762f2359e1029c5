"""What a worker says to Redis straight over a connection: answers belong to their questions."""

import asyncio

import hiredis
import pytest
from redis.exceptions import TimeoutError as RedisTimeout

from features.client_redis import connect_redis
from features.lane_redis import Lane
from features.store import StoreUnavailable
from features.store_redis import RedisFeatureStore

pytestmark = pytest.mark.live
PATIENCE_S = 10.0
LOOKS = 1_000


def echo(*words: bytes) -> bytes:
    return b"".join(hiredis.pack_command((b"ECHO", word)) for word in words)


async def test_answers_come_in_the_order_of_the_commands_and_a_refused_one_is_its_error(
    redis_url: str,
) -> None:
    client = connect_redis(redis_url)
    packed = echo(b"a") + hiredis.pack_command((b"NONSENSE",)) + echo(b"b")
    first, refused, last = await Lane(client).exchange(packed, 3)
    await client.aclose()
    assert (first, last) == (b"a", b"b")
    assert "unknown command" in str(refused)


async def test_a_connection_that_the_server_closed_in_between_is_not_used_again(
    redis_url: str,
) -> None:
    client, other = connect_redis(redis_url), connect_redis(redis_url)
    lane = Lane(client)
    (name,) = await lane.exchange(hiredis.pack_command((b"CLIENT", b"ID")), 1)
    assert await other.execute_command("CLIENT", "KILL", "ID", name) == 1
    for _ in range(LOOKS):
        if lane.idle_closed():
            break
        await asyncio.sleep(0.01)
    assert await lane.exchange(echo(b"still here"), 1) == [b"still here"]
    await client.aclose()
    await other.aclose()


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one(redis_url: str) -> None:
    client, other = connect_redis(redis_url, timeout_s=0.2), connect_redis(redis_url)
    store = RedisFeatureStore(
        client, prefix="lane:", partitions=1, spec_digest="d", ttl_s=1, updates_topic="t"
    )
    lane = Lane(client)
    assert await lane.exchange(echo(b"before"), 1) == [b"before"]
    await other.execute_command("CLIENT", "PAUSE", "1000", "ALL")
    with pytest.raises(RedisTimeout):
        await lane.exchange(echo(b"late"), 1)
    with pytest.raises(StoreUnavailable, match="timeout"):
        await store.load_many(0, [b"k"])
    async with asyncio.timeout(PATIENCE_S):
        await other.ping()
    assert await lane.exchange(echo(b"next", b"after"), 2) == [b"next", b"after"]
    await client.aclose()
    await other.aclose()
