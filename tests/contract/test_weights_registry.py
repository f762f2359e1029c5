"""What every weights registry promises: the memory fake always, Redis with `-m live`."""

import asyncio
import socket

import pytest

from features.client_redis import connect_redis
from models.registry import (
    Freeze,
    NoWeights,
    Progress,
    RegistryUnavailable,
    Standing,
    VersionConflict,
)
from models.registry_redis import RedisWeightsRegistry
from tests.builders_registry import SOON_S, SPEC, Shelf, body_of, publish_up_to

OTHER_SPEC = "e" * 64


async def test_one_learner_sends_label_transitions(shelf: Shelf) -> None:
    for _ in range(2):  # and it may ask again
        assert await shelf.writer.claim_labels("first") == "first"
    assert await shelf.reader.claim_labels("second") == "first"
    assert await shelf.writer.claim_labels("first") == "first"


@pytest.mark.live
async def test_lines_of_two_specs_do_not_meet(redis_url: str, redis_prefix: str) -> None:
    client = connect_redis(redis_url)
    old, new = (RedisWeightsRegistry(client, redis_prefix, spec) for spec in (SPEC, OTHER_SPEC))
    try:
        for version in (1, 2):
            await old.publish(version, b"old %d" % version)
        await new.publish(1, b"new 1")
        await new.report_active("a scorer", 1)
        await new.report_progress({"t:0": 7}, 1)
        assert (await old.read(1), await new.read(1)) == (b"old 1", b"new 1")
        assert (await old.latest_version(), await new.latest_version()) == (2, 1)
        assert await old.active_versions() == {}
        assert await old.progress() is None
        await old.pin(1, "a test", "to leave something behind", 0)
        await old.freeze(Freeze(by="a test", why="likewise", at_ms=0, cause="operator"))
        await old.take_lease("a test", SOON_S)
        await old.forget()
        assert (await old.latest_version(), await new.latest_version()) == (0, 1)
        left = [key async for key in client.scan_iter(f"{redis_prefix}*")]
        assert left
        assert all(OTHER_SPEC[:12].encode() in key for key in left)
    finally:
        await client.aclose()


@pytest.mark.live
async def test_lines_of_one_spec_do_not_meet(redis_url: str, redis_prefix: str) -> None:
    client = connect_redis(redis_url)
    main = RedisWeightsRegistry(client, redis_prefix, SPEC)
    rival = RedisWeightsRegistry(client, redis_prefix, SPEC, line="rival")
    try:
        await main.publish(1, b"main 1")
        assert await rival.latest_version() == 0
        await rival.publish(1, b"rival 1")
        await rival.publish(2, b"rival 2")
        await rival.pin(1, "a test", "", 0)
        assert (await main.read(1), await rival.read(1)) == (b"main 1", b"rival 1")
        assert (await main.active_version(), await main.history()) == (1, [])
        await rival.forget()
        assert (await main.latest_version(), await rival.latest_version()) == (1, 0)
    finally:
        await client.aclose()


async def test_an_empty_registry_stands_at_zero(shelf: Shelf) -> None:
    assert await shelf.reader.standing() == Standing(latest=0, active=0, pinned=False)
    assert await shelf.reader.latest_version() == await shelf.reader.active_version() == 0
    assert await shelf.reader.history() == []
    with pytest.raises(NoWeights):
        await shelf.reader.read(1)


async def test_what_is_published_is_read_whole_by_others(shelf: Shelf) -> None:
    await publish_up_to(shelf, 2)
    assert await shelf.reader.read(1) == body_of(1)
    assert await shelf.reader.read(2) == body_of(2)
    assert await shelf.reader.standing() == Standing(latest=2, active=2, pinned=False)


@pytest.mark.parametrize("version", [1, 2, 4, 9])
async def test_a_second_learner_is_refused(shelf: Shelf, version: int) -> None:
    await publish_up_to(shelf, 2)
    with pytest.raises(VersionConflict):
        await shelf.writer.publish(version, b"other")
    assert await shelf.reader.latest_version() == 2
    assert await shelf.reader.read(2) == body_of(2)


async def test_of_two_learners_at_once_one_wins(shelf: Shelf) -> None:
    await publish_up_to(shelf, 1)
    results = await asyncio.gather(
        shelf.writer.publish(2, b"a"), shelf.reader.publish(2, b"b"), return_exceptions=True
    )
    assert sorted(type(result) for result in results if result) == [VersionConflict]
    winner = b"a" if results[0] is None else b"b"
    assert await shelf.reader.read(2) == winner


async def test_only_the_newest_versions_stay(shelf: Shelf) -> None:
    await publish_up_to(shelf, 6)
    for version in (4, 5, 6):
        assert await shelf.reader.read(version) == body_of(version)
    for version in (1, 2, 3):
        with pytest.raises(NoWeights):
            await shelf.reader.read(version)


async def test_a_pinned_version_stays_active_and_readable(shelf: Shelf) -> None:
    await publish_up_to(shelf, 2)
    await shelf.reader.pin(2, "ann", "alerts doubled", 17)
    for version in range(3, 9):
        await shelf.writer.publish(version, body_of(version))
    assert await shelf.reader.standing() == Standing(latest=8, active=2, pinned=True)
    assert await shelf.reader.read(2) == body_of(2)
    await shelf.reader.unpin("bob", "fixed", 18)
    assert await shelf.reader.standing() == Standing(latest=8, active=8, pinned=False)
    with pytest.raises(NoWeights):
        await shelf.reader.read(2)
    acts = [
        (act.act, act.version, act.by, act.why, act.at_ms) for act in await shelf.reader.history()
    ]
    assert acts == [("unpin", 8, "bob", "fixed", 18), ("pin", 2, "ann", "alerts doubled", 17)]


async def test_a_held_version_stays_readable_until_it_is_let_go(shelf: Shelf) -> None:
    await publish_up_to(shelf, 2)
    await shelf.reader.hold(2)
    await shelf.reader.pin(1, "ann", "", 1)
    for version in range(3, 9):
        await shelf.writer.publish(version, body_of(version))
    assert [one.version for one in await shelf.reader.shelf()] == [1, 2, 6, 7, 8]
    assert await shelf.reader.standing() == Standing(latest=8, active=1, pinned=True)
    await shelf.reader.hold(7)
    assert [one.version for one in await shelf.reader.shelf()] == [1, 6, 7, 8]
    await shelf.reader.hold(0)
    for gone in (2, 99):
        with pytest.raises(NoWeights):
            await shelf.reader.hold(gone)
    await shelf.writer.publish(9, body_of(9))
    assert [one.version for one in await shelf.reader.shelf()] == [1, 7, 8, 9]
    assert len(await shelf.reader.history()) == 1


async def test_a_pin_that_is_replaced_leaves_nothing_behind(shelf: Shelf) -> None:
    await publish_up_to(shelf, 2)
    await shelf.writer.pin(2, "ann", "", 1)
    for version in range(3, 9):
        await shelf.writer.publish(version, body_of(version))
    await shelf.writer.pin(7, "ann", "", 2)
    with pytest.raises(NoWeights):
        await shelf.reader.read(2)
    assert await shelf.reader.active_version() == 7


async def test_rollback_pins_the_version_before(shelf: Shelf) -> None:
    await publish_up_to(shelf, 3)
    assert await shelf.reader.rollback("ann", "", 1) == 2
    assert await shelf.reader.standing() == Standing(latest=3, active=2, pinned=True)


async def test_what_is_not_on_the_shelf_cannot_be_pinned(shelf: Shelf) -> None:
    await publish_up_to(shelf, 1)
    for act in (shelf.reader.pin(5, "ann", "", 1), shelf.reader.rollback("ann", "", 1)):
        with pytest.raises(NoWeights):
            await act
    assert await shelf.reader.standing() == Standing(latest=1, active=1, pinned=False)
    await shelf.reader.unpin("ann", "", 2)
    assert await shelf.reader.history() == []


async def test_lost_versions_come_back_and_nothing_is_lowered(shelf: Shelf) -> None:
    await publish_up_to(shelf, 1)
    await shelf.writer.restore(7, body_of(7))
    assert await shelf.reader.latest_version() == 7
    await shelf.writer.restore(5, b"older")
    assert await shelf.reader.latest_version() == 7
    assert await shelf.reader.read(7) == body_of(7)
    with pytest.raises(NoWeights):
        await shelf.reader.read(5)
    await shelf.writer.publish(8, body_of(8))


async def test_who_waits_is_woken_by_a_publication_and_by_a_rollback(shelf: Shelf) -> None:
    await publish_up_to(shelf, 1)
    waiting = asyncio.create_task(shelf.reader.wait_newer(1, SOON_S))
    await asyncio.sleep(0)
    await shelf.writer.publish(2, body_of(2))
    assert await waiting == 2
    assert await shelf.reader.wait_newer(1, SOON_S) == 2  # what happened before counts
    waiting = asyncio.create_task(shelf.reader.wait_newer(2, SOON_S))
    await asyncio.sleep(0)
    await shelf.writer.rollback("ann", "", 1)
    assert await waiting == 1


async def test_who_waits_in_vain_gets_the_version_as_it_is(shelf: Shelf) -> None:
    await publish_up_to(shelf, 1)
    assert await shelf.reader.wait_newer(1, 0.05) == 1


async def test_scorers_and_learner_report(shelf: Shelf) -> None:
    assert await shelf.reader.progress() is None
    assert await shelf.reader.active_versions() == {}
    await shelf.reader.report_active("serve-1", 4)
    await shelf.reader.report_active("serve-2", 3)
    await shelf.reader.report_active("serve-1", 5)
    assert await shelf.writer.active_versions() == {"serve-1": 5, "serve-2": 3}
    await shelf.writer.report_progress({"decisions.v1:0": 7}, 5)
    await shelf.writer.report_progress({"decisions.v1:0": 9}, 5)
    assert await shelf.reader.progress() == Progress(offsets={"decisions.v1:0": 9}, version=5)


async def test_a_registry_that_does_not_answer_is_named() -> None:
    with socket.socket() as nobody:  # bound, not listening: connections are refused
        nobody.bind(("127.0.0.1", 0))
        client = connect_redis(f"redis://127.0.0.1:{nobody.getsockname()[1]}", timeout_s=1.0)
        registry = RedisWeightsRegistry(client, "none:", SPEC)
        with pytest.raises(RegistryUnavailable):
            await registry.latest_version()
        await client.aclose()


@pytest.mark.live
async def test_a_silent_scorer_is_forgotten(redis_url: str, redis_prefix: str) -> None:
    client = connect_redis(redis_url)
    registry = RedisWeightsRegistry(client, redis_prefix, SPEC, report_ttl_s=0.05)
    await registry.report_active("serve-1", 4)
    async with asyncio.timeout(SOON_S):
        while await registry.active_versions():  # noqa: ASYNC110 - the clock is the server's
            await asyncio.sleep(0.02)
    await client.aclose()
