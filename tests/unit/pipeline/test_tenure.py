"""A lease is renewed in time, and whoever lost it hears of it."""

import pytest

from models.registry import RegistryUnavailable
from pipeline.tenure import LeaseLost, Tenure
from tests.fakes_registry import MemoryWeightsRegistry


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_it_asks_the_registry_only_when_a_third_of_its_time_has_passed() -> None:
    clock = Clock()
    registry = MemoryWeightsRegistry(now_s=clock)
    tenure = Tenure(registry, "mine", 3.0, clock)
    await tenure.hold()
    clock.now_s += 0.9
    await tenure.hold()  # not yet
    clock.now_s += 2.2  # 3.1 s after the one renewal
    assert await registry.lease_owner() == ""
    await tenure.hold()
    assert await registry.lease_owner() == "mine"


async def test_who_lost_it_is_told_who_has_it() -> None:
    clock = Clock()
    registry = MemoryWeightsRegistry(now_s=clock)
    tenure = Tenure(registry, "mine", 3.0, clock)
    assert await tenure.take() == "mine"
    clock.now_s += 10
    assert await registry.take_lease("theirs", 3.0) == "theirs"
    with pytest.raises(LeaseLost, match="theirs"):
        await tenure.hold()
    await tenure.leave()
    assert await registry.lease_owner() == "theirs"


class Away(MemoryWeightsRegistry):
    """A registry that answers only while it is there."""

    there = True

    async def take_lease(self, owner: str, ttl_s: float, instead_of: str = "") -> str:
        if not self.there:
            raise RegistryUnavailable("nobody listens")
        return await super().take_lease(owner, ttl_s, instead_of)


async def test_an_absent_registry_stops_publishing_and_nothing_else() -> None:
    clock = Clock()
    registry = Away(now_s=clock)
    tenure = Tenure(registry, "mine", 3.0, clock)
    await tenure.renew()
    registry.there = False
    clock.now_s += 1.5
    await tenure.renew()
    with pytest.raises(RegistryUnavailable):
        await tenure.hold()
    registry.there = True
    await tenure.renew()
    clock.now_s += 2.5
    assert await registry.lease_owner() == "mine"
