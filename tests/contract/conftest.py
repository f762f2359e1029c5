"""The stores and registries that contracts are run on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from features.store_redis import RedisFeatureStore
from models.registry_redis import RedisWeightsRegistry
from tests.builders_registry import KEEP, SPEC, Shelf
from tests.builders_store import DIGEST, PARTITIONS, Stores
from tests.conftest import CONTRACT_PARAMS, RedisOf
from tests.fakes import MemoryFeatureStore, MemoryShelf
from tests.fakes_registry import MemoryWeightsRegistry


@pytest.fixture(params=CONTRACT_PARAMS)
async def stores(request: pytest.FixtureRequest, redis_of: RedisOf) -> AsyncIterator[Stores]:
    """Makes stores over one shelf: two of them are two processes over one Redis."""
    if request.param == "memory":
        shelf = MemoryShelf()

        def make(**changes: Any) -> MemoryFeatureStore:
            return MemoryFeatureStore(
                shelf, **{"partitions": PARTITIONS, "spec_digest": DIGEST, **changes}
            )

        async def empty() -> None:
            shelf.__init__()  # type: ignore[misc]  # as new

        yield Stores(make, empty)
        return
    connect, prefix = redis_of(request.param)
    client = connect()

    def make_redis(**changes: Any) -> RedisFeatureStore:
        values = {
            "prefix": prefix,
            "partitions": PARTITIONS,
            "spec_digest": DIGEST,
            "ttl_s": 1000,
            "updates_topic": "updates.v1",
        }
        return RedisFeatureStore(client, **{**values, **changes})

    async def empty_redis() -> None:
        async for key in client.scan_iter(f"{prefix}*"):
            await client.unlink(key)

    yield Stores(make_redis, empty_redis)
    await client.aclose()


@pytest.fixture(params=CONTRACT_PARAMS)
async def shelf(request: pytest.FixtureRequest, redis_of: RedisOf) -> AsyncIterator[Shelf]:
    if request.param == "memory":
        registry = MemoryWeightsRegistry(KEEP)
        yield Shelf(registry, registry)
        return
    connect, prefix = redis_of(request.param)
    clients = [connect() for _ in range(2)]
    try:
        yield Shelf(
            *(RedisWeightsRegistry(client, prefix, SPEC, KEEP, poll_s=1.0) for client in clients)
        )
    finally:
        for client in clients:
            await client.aclose()
