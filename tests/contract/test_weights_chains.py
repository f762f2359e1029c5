"""What every weights registry promises of chains, freezes and leases."""

import asyncio

import pytest

from models.registry import ChainBroken, Freeze, NoWeights, Shelved
from tests.builders_registry import SOON_S, Shelf, body_of, publish_up_to


async def publish_chains(shelf: Shelf, fulls: set[int], last: int) -> None:
    for number in range(1, last + 1):
        base = 0 if number in fulls else number - 1
        await shelf.writer.publish(number, body_of(number), base)


async def numbers_of(shelf: Shelf) -> list[int]:
    return [one.version for one in await shelf.reader.shelf()]


async def test_a_chain_is_read_from_its_full_version_on(shelf: Shelf) -> None:
    await publish_chains(shelf, {1, 4}, 6)
    assert await shelf.reader.read_chain(6) == [body_of(4), body_of(5), body_of(6)]
    assert await shelf.reader.read_chain(4) == [body_of(4)]
    with pytest.raises(NoWeights):
        await shelf.reader.read_chain(7)


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (6, [1, 2, 3, 4, 5, 6]),  # 4 is kept, and stands on 1
        (7, [5, 6, 7]),  # 5 is a full one
        (8, [5, 6, 7, 8]),
        (10, [5, 6, 7, 8, 9, 10]),
    ],
)
async def test_what_the_chain_of_a_kept_version_needs_stays(
    shelf: Shelf, last: int, expected: list[int]
) -> None:
    await publish_chains(shelf, {1, 5}, last)
    assert await numbers_of(shelf) == expected
    for number in expected:
        chain = await shelf.reader.read_chain(number)
        assert chain == [body_of(n) for n in range(1 if number < 5 else 5, number + 1)]


async def test_a_pinned_version_keeps_its_chain_and_no_more(shelf: Shelf) -> None:
    await publish_chains(shelf, {1, 3, 7, 9, 12}, 5)
    await shelf.reader.pin(5, "ann", "", 1)
    for number in range(6, 14):
        base = 0 if number in {7, 9, 12} else number - 1
        await shelf.writer.publish(number, body_of(number), base)
    assert await numbers_of(shelf) == [3, 4, 5, 9, 10, 11, 12, 13]
    assert await shelf.reader.read_chain(5) == [body_of(3), body_of(4), body_of(5)]
    await shelf.reader.pin(12, "ann", "", 2)
    assert await numbers_of(shelf) == [9, 10, 11, 12, 13]
    await shelf.reader.unpin("ann", "", 3)
    assert await numbers_of(shelf) == [9, 10, 11, 12, 13]


async def test_a_delta_whose_base_is_absent_is_refused(shelf: Shelf) -> None:
    with pytest.raises(ChainBroken):
        await shelf.writer.publish(1, body_of(1), 9)
    with pytest.raises(ChainBroken):
        await shelf.writer.restore(7, body_of(7), 6)
    assert await shelf.reader.latest_version() == 0
    await shelf.writer.restore(6, body_of(6))
    await shelf.writer.restore(7, body_of(7), 6)
    assert await shelf.reader.read_chain(7) == [body_of(6), body_of(7)]


async def test_the_shelf_says_what_stands_on_it(shelf: Shelf) -> None:
    assert await shelf.reader.shelf() == []
    await publish_chains(shelf, {1}, 2)
    assert await shelf.reader.shelf() == [
        Shelved(version=1, full=1, size_bytes=5000),
        Shelved(version=2, full=1, size_bytes=5000),
    ]
    assert await shelf.reader.read_head(2, 10) == body_of(2)[:10]
    assert await shelf.reader.read_head(2, 9000) == body_of(2)
    with pytest.raises(NoWeights):
        await shelf.reader.read_head(3, 10)


async def test_a_freeze_stands_until_it_is_thawed(shelf: Shelf) -> None:
    await publish_up_to(shelf, 2)
    assert await shelf.reader.frozen() is None
    first = Freeze(by="learner", why="norm: 9e9", at_ms=5, cause="checks")
    second = Freeze(by="ann", why="a release", at_ms=6, cause="operator")
    assert await shelf.writer.freeze(first) == first
    assert await shelf.reader.freeze(second) == first
    assert await shelf.reader.frozen() == first
    assert await shelf.reader.thaw("ann", "looked at it", 7)
    assert await shelf.writer.frozen() is None
    assert not await shelf.reader.thaw("bob", "again", 8)
    acts = [(act.act, act.version, act.by, act.at_ms) for act in await shelf.reader.history()]
    assert acts == [("thaw", 2, "ann", 7), ("freeze", 2, "ann", 6), ("freeze", 2, "learner", 5)]


async def test_a_lease_has_one_owner_who_may_renew_it(shelf: Shelf) -> None:
    assert await shelf.reader.lease_owner() == ""
    assert await shelf.writer.take_lease("first", SOON_S) == "first"
    assert await shelf.reader.take_lease("second", SOON_S) == "first"
    assert await shelf.writer.take_lease("first", SOON_S) == "first"
    await shelf.reader.release_lease("second")
    assert await shelf.reader.lease_owner() == "first"
    await shelf.writer.release_lease("first")
    assert await shelf.reader.lease_owner() == ""
    assert await shelf.reader.take_lease("second", SOON_S) == "second"


async def test_of_two_that_want_a_lease_one_gets_it(shelf: Shelf) -> None:
    answers = await asyncio.gather(
        shelf.writer.take_lease("a", SOON_S), shelf.reader.take_lease("b", SOON_S)
    )
    assert answers[0] == answers[1]


async def test_a_lease_is_free_when_its_time_is_over(shelf: Shelf) -> None:
    assert await shelf.writer.take_lease("first", 0.05) == "first"
    async with asyncio.timeout(SOON_S):
        while await shelf.reader.lease_owner():  # noqa: ASYNC110 - the clock is the server's
            await asyncio.sleep(0.01)
    assert await shelf.reader.take_lease("second", SOON_S) == "second"


async def test_the_lease_of_a_dead_owner_is_taken_over(shelf: Shelf) -> None:
    assert await shelf.writer.take_lease("dead", SOON_S) == "dead"
    assert await shelf.reader.take_lease("second", SOON_S, instead_of="other") == "dead"
    assert await shelf.reader.take_lease("second", SOON_S, instead_of="dead") == "second"
    assert await shelf.writer.take_lease("dead", SOON_S) == "second"
