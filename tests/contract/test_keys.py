"""One suite for stores of API keys: memory, file, and Redis with `-m live`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from api.keys import KeyRecord, KeyStore, KeysUnavailable
from api.keys_file import FileKeyStore
from api.keys_redis import RedisKeyStore
from features.client_redis import connect_redis
from tests.conftest import CONTRACT_PARAMS, UNDER_RIGHTS_OF, RedisOf
from tests.fakes_keys import MemoryKeyStore


@pytest.fixture(params=["file", *CONTRACT_PARAMS, UNDER_RIGHTS_OF["operate"]])
async def keys(
    request: pytest.FixtureRequest, redis_of: RedisOf, tmp_path: Path
) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    if request.param == "file":
        yield FileKeyStore(tmp_path / "keys" / "keys.json")
        return
    connect, prefix = redis_of(request.param)
    client = connect()
    yield RedisKeyStore(client, prefix, 10.0)
    await client.aclose()


def a_record(number: int) -> KeyRecord:
    return KeyRecord(
        id=f"{number:012x}",
        name=f"shop-{number}",
        tenant="default",
        scopes=["decide", "read"],
        hash="ab" * 32,
        made_at_ms=number,
        requests_per_s=2.5,
    )


async def test_an_empty_store_holds_no_keys(keys: KeyStore) -> None:
    assert await keys.read_all() == []
    await keys.put_many([])
    assert await keys.read_all() == []


async def test_records_come_back_in_the_order_in_which_they_were_made(keys: KeyStore) -> None:
    await keys.put_many([a_record(1), a_record(2)])
    await keys.put_many([a_record(3)])
    assert await keys.read_all() == [a_record(1), a_record(2), a_record(3)]


async def test_a_later_record_of_an_id_replaces_the_earlier(keys: KeyStore) -> None:
    await keys.put_many([a_record(1), a_record(2)])
    revoked = msgspec.structs.replace(a_record(1), revoked_at_ms=9)
    await keys.put_many([revoked])
    assert await keys.read_all() == [revoked, a_record(2)]


async def test_of_many_who_write_at_once_none_is_lost(keys: KeyStore) -> None:
    await asyncio.gather(*(keys.put_many([a_record(i)]) for i in range(20)))
    assert await keys.read_all() == [a_record(i) for i in range(20)]


async def test_a_store_that_is_not_there_is_named() -> None:
    client = connect_redis("redis://127.0.0.1:1/0")
    with pytest.raises(KeysUnavailable):
        await RedisKeyStore(client, "t:", 5.0).read_all()
    await client.aclose()
