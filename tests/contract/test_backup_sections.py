"""A section of the store comes back as it was: on one server, and on a cluster."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from features.client_redis import Client
from models.policy_lists import ListEntry
from models.policy_lists_redis import RedisLists
from models.registry import Freeze
from models.registry_redis import RedisWeightsRegistry
from riskbeat.backup_redis import (
    Section,
    SectionStore,
    line_section,
    policy_section,
    read_frames,
)
from tests.conftest import RedisOf

pytestmark = pytest.mark.live

SPEC = "d" * 64
ENTRIES = 5_000


@pytest.fixture(params=["redis", "cluster"])
async def place(
    request: pytest.FixtureRequest, redis_of: RedisOf
) -> AsyncIterator[tuple[Client, str]]:
    make, prefix = redis_of(request.param)
    client = make()
    yield client, prefix
    await client.aclose()


async def everything(client: Client, section: Section) -> dict[bytes, object]:
    """What stands under a section's hash tag, but for what lives for seconds."""
    tag = section.base.encode()
    gone = {tag + name.encode() for name in section.live}
    found: dict[bytes, object] = {}
    async for key in client.scan_iter(match=tag.replace(b"{", b"[{]") + b"*"):
        if key in gone:
            continue
        kind = await client.type(key)
        if kind == b"hash":
            found[key] = await client.hgetall(key)
        elif kind == b"list":
            found[key] = await client.lrange(key, 0, -1)
        else:
            found[key] = await client.get(key)
    return found


async def test_a_line_of_versions_comes_back(place: tuple[Client, str], tmp_path: Path) -> None:
    client, prefix = place
    main = RedisWeightsRegistry(client, prefix, SPEC)
    rival = RedisWeightsRegistry(client, prefix, SPEC, line="rival")
    for version in (1, 2, 3):
        await main.publish(version, b"full %d" % version)
    await main.publish(4, b"delta", base=3)
    await rival.publish(1, b"rival")
    await main.pin(2, "ann", "a drill", 5)
    await main.freeze(Freeze(by="ann", why="a drill", at_ms=6, cause="operator"))
    await main.take_lease("a learner", 60.0)
    store = SectionStore(client)
    assert await store.lines(prefix) == [SPEC[:12], f"{SPEC[:12]}.rival"]
    section = line_section(prefix, SPEC[:12])
    assert await store.lease_of(section) == "a learner"
    before = await everything(client, section)
    assert await store.save(section, tmp_path / "part")

    await main.forget()
    assert not await store.holds(section)
    await main.publish(1, b"another")  # and more than the backup knows of
    await main.publish(2, b"another")
    for version in range(3, 9):
        await main.publish(version, b"another")
    assert await store.holds(section)
    for _ in range(2):  # what was done once may be done again
        with (tmp_path / "part").open("rb") as source:
            await store.put_back(section, read_frames(source))
        assert await everything(client, section) == before
    assert (await main.read(4), (await main.standing()).active) == (b"delta", 2)
    assert await main.lease_owner() == ""
    assert await rival.read(1) == b"rival"


async def test_an_interrupted_restore_leaves_what_stood(
    place: tuple[Client, str], tmp_path: Path
) -> None:
    client, prefix = place
    main = RedisWeightsRegistry(client, prefix, SPEC)
    for version in (1, 2):
        await main.publish(version, b"old %d" % version)
    store, section = SectionStore(client), line_section(prefix, SPEC[:12])
    await store.save(section, tmp_path / "part")
    await main.publish(3, b"new")

    def cut_short(source):  # type: ignore[no-untyped-def]
        yield from list(read_frames(source))[:-1]
        raise OSError("the power went")

    with (tmp_path / "part").open("rb") as source, pytest.raises(OSError, match="power"):
        await store.put_back(section, cut_short(source))
    assert (await main.latest_version(), await main.read(3)) == (3, b"new")
    with (tmp_path / "part").open("rb") as source:
        await store.put_back(section, read_frames(source))
    assert (await main.latest_version(), await main.read(2)) == (2, b"old 2")
    assert not [key for key in await everything(client, section) if b"restoring" in key]


async def test_lists_come_back_with_their_counts(place: tuple[Client, str], tmp_path: Path) -> None:
    client, prefix = place
    lists = RedisLists(client, prefix)
    for start in range(0, ENTRIES, 1_000):
        await lists.put_many([an_entry(f"c{i}") for i in range(start, start + 1_000)])
    store, section = SectionStore(client), policy_section(prefix)
    before = await everything(client, section)
    assert await store.save(section, tmp_path / "part")
    for key in before:
        await client.unlink(key)
    with (tmp_path / "part").open("rb") as source:
        await store.put_back(section, read_frames(source))
    assert await everything(client, section) == before
    assert (await lists.counts())["deny"] == ENTRIES


async def test_an_empty_section_has_no_part(place: tuple[Client, str], tmp_path: Path) -> None:
    client, prefix = place
    store = SectionStore(client)
    assert not await store.save(policy_section(prefix), tmp_path / "part")
    assert await store.lines(prefix) == []


def an_entry(entity_id: str) -> ListEntry:
    return ListEntry(list="deny", entity="card", id=entity_id, by="ann", reason="a drill", at_ms=1)
