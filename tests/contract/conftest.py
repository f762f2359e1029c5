"""The stores and registries that contracts are run on."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from features.store_redis import RedisFeatureStore
from models.registry_redis import RedisWeightsRegistry
from riskbeat.access import ROLES
from tests.builders_registry import KEEP, SPEC, Shelf
from tests.builders_store import DIGEST, PARTITIONS, Stores
from tests.conftest import CONTRACT_PARAMS, UNDER_RIGHTS_OF, RedisOf
from tests.fakes import MemoryFeatureStore, MemoryShelf
from tests.fakes_registry import MemoryWeightsRegistry


@pytest.fixture(params=[*CONTRACT_PARAMS, UNDER_RIGHTS_OF["featurize"]])
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
    owner = redis_of("operate")[0]() if request.param in ROLES else client

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
        async for key in owner.scan_iter(f"{prefix}*"):
            await owner.unlink(key)

    yield Stores(make_redis, empty_redis)
    for each in {client, owner}:
        await each.aclose()


@pytest.fixture(params=[*CONTRACT_PARAMS, UNDER_RIGHTS_OF["learn"]])
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
