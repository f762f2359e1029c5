"""One suite for the lists' store, on the fake always and on Redis with `-m live`."""

from collections.abc import AsyncIterator

import pytest

from models.policy_lists import ListEntry, ListKey, ListsFull, ListStore
from models.policy_lists_redis import RedisLists
from tests.conftest import CONTRACT_PARAMS, UNDER_RIGHTS_OF, RedisOf
from tests.fakes_policy import MemoryLists

MAX = 10


@pytest.fixture(params=[*CONTRACT_PARAMS, UNDER_RIGHTS_OF["operate"]])
async def lists(request: pytest.FixtureRequest, redis_of: RedisOf) -> AsyncIterator[ListStore]:
    if request.param == "memory":
        yield MemoryLists(MAX)
        return
    connect, prefix = redis_of(request.param)
    client = connect()
    yield RedisLists(client, prefix, MAX)
    await client.aclose()


def an_entry(name: str = "c1", **changes: object) -> ListEntry:
    values: dict[str, object] = {"list": "deny", "entity": "card", "id": name, "reason": "stolen"}
    return ListEntry(**{**values, **changes})  # type: ignore[arg-type]


def key_of(entry: ListEntry) -> ListKey:
    return ListKey(list=entry.list, entity=entry.entity, id=entry.id, tenant=entry.tenant)


async def all_of(lists: ListStore) -> set[ListEntry]:
    return {entry async for batch in lists.scan() for entry in batch}


async def test_what_was_put_is_found_counted_and_scanned(lists: ListStore) -> None:
    entries = [
        an_entry(),
        an_entry(list="allow", by="ann", at_ms=5, until_ms=9),
        an_entry(tenant="north"),
        an_entry("m 1/ü", entity="merchant", list="watch"),
    ]
    assert await lists.put_many(entries) == 4
    assert await lists.find([key_of(e) for e in entries]) == entries
    assert await lists.counts() == {"deny": 2, "watch": 1, "allow": 1}
    assert await all_of(lists) == set(entries)
    assert await lists.find([key_of(an_entry("c2"))]) == [None]


async def test_an_entry_that_is_put_again_takes_its_place(lists: ListStore) -> None:
    await lists.put_many([an_entry()])
    assert await lists.put_many([an_entry(reason="lost"), an_entry("c2")]) == 1
    assert await lists.find([key_of(an_entry())]) == [an_entry(reason="lost")]
    assert (await lists.counts())["deny"] == 2


async def test_an_entry_twice_in_one_call_counts_once(lists: ListStore) -> None:
    assert await lists.put_many([an_entry(), an_entry(reason="lost")]) == 1
    assert (await lists.counts())["deny"] == 1
    assert await lists.find([key_of(an_entry())]) == [an_entry(reason="lost")]


async def test_what_was_taken_out_is_gone(lists: ListStore) -> None:
    await lists.put_many([an_entry(), an_entry("c2")])
    assert await lists.remove_many([key_of(an_entry()), key_of(an_entry("never"))]) == 1
    assert await all_of(lists) == {an_entry("c2")}
    assert (await lists.counts())["deny"] == 1
    assert await lists.remove_many([key_of(an_entry())]) == 0


async def test_lists_have_a_limit_and_what_passes_it_is_refused_whole(lists: ListStore) -> None:
    await lists.put_many([an_entry(f"c{i}") for i in range(MAX - 1)])
    with pytest.raises(ListsFull, match=f"at most {MAX}"):
        await lists.put_many([an_entry("new"), an_entry("newer")])
    assert (await lists.counts())["deny"] == MAX - 1
    assert await lists.put_many([an_entry("new"), an_entry("c1")]) == 1


async def test_a_follower_sees_changes_in_order_from_where_it_stands(lists: ListStore) -> None:
    await lists.put_many([an_entry()])
    position = await lists.position()
    assert (await lists.changes_since(position))[0] == []
    await lists.put_many([an_entry("c2"), an_entry("c3")])
    await lists.remove_many([key_of(an_entry("c2"))])
    await lists.put_many([an_entry("c2", reason="again")])
    changes, position = await lists.changes_since(position)
    assert [(change.key.id, change.entry and change.entry.reason) for change in changes] == [
        ("c2", "stolen"),
        ("c3", "stolen"),
        ("c2", None),
        ("c2", "again"),
    ]
    assert await lists.changes_since(position) == ([], position)


async def test_a_follower_of_an_empty_log_sees_the_first_change(lists: ListStore) -> None:
    position = await lists.position()
    await lists.put_many([an_entry()])
    changes, _ = await lists.changes_since(position)
    assert [change.key.id for change in changes] == ["c1"]


async def test_a_long_log_comes_in_pieces(lists: ListStore) -> None:
    position = await lists.position()
    for number in range(70):
        await lists.put_many([an_entry(reason=f"{number}")])
    seen: list[str] = []
    while True:
        changes, position = await lists.changes_since(position)
        if not changes:
            break
        seen += [change.entry.reason for change in changes if change.entry is not None]
    assert seen == [f"{number}" for number in range(70)]
