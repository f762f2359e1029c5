"""What every feature store promises: on the memory fake, and on Redis and a cluster of Redis."""

from typing import Any

import numpy as np
import pytest

from features.store import DedupBucket, LogTruncated, SchemaMismatch, StoreConflict, Watermarks
from tests.builders_store import HOUR_MS, OTHER, Stores, a_commit, keys_of, opened


async def test_an_empty_store_reads_as_entities_never_seen(stores: Stores) -> None:
    reads = await stores().read_many(keys_of(2, 3))
    assert reads.blobs == [b"", b"", b""]
    assert reads.partition == [2, 2, 2]
    assert reads.fresh_until_ms.get(2, 0) == 0


async def test_the_first_open_begins_at_the_logs_start(stores: Stores) -> None:
    store = await opened(stores)
    meta = await store.open_partition(1, 0)
    assert (meta.next_offset, meta.watermarks, meta.fresh_until_ms) == (0, Watermarks(), 0)


async def test_a_partition_whose_logs_start_is_gone_is_refused(stores: Stores) -> None:
    store = stores()
    await store.attach()
    with pytest.raises(LogTruncated, match="riskbeat rebuild"):
        await store.open_partition(1, 17)
    await store.open_partition(2, 0)
    assert (await store.open_partition(2, 17)).next_offset == 0


async def test_what_was_committed_is_read_together(stores: Stores) -> None:
    store, commit = await opened(stores), a_commit()
    await store.commit_batch(commit)
    asked = [*keys_of(1, 3), *keys_of(0, 1)]
    reads = await stores().read_many(asked)
    assert reads.blobs == [*commit.states.values(), b"", b""]
    assert reads.partition == [1, 1, 1, 0]
    assert reads.watermarks[1] == commit.watermarks
    assert reads.watermarks[1].next_offsets() == {"e": [5], "l": [3]}
    assert reads.fresh_until_ms == {1: 98, 0: 0}
    meta = await stores().open_partition(1, 3)
    assert (meta.next_offset, meta.watermarks, meta.fresh_until_ms) == (7, commit.watermarks, 98)


async def test_a_zombies_commit_changes_nothing(stores: Stores) -> None:
    zombie, owner = await opened(stores), await opened(stores)
    await owner.commit_batch(a_commit())
    (key,) = keys_of(1, 1)
    with pytest.raises(StoreConflict):
        await zombie.commit_batch(a_commit(next_offset=6, states={key: b"zombie"}))
    assert (await owner.load_many(1, [key]))[0] == a_commit().states[key]
    assert (await owner.open_partition(1, 0)).next_offset == 7


async def test_a_commit_to_a_partition_that_nobody_opened_is_refused(stores: Stores) -> None:
    store = await opened(stores)
    with pytest.raises(StoreConflict):
        await store.commit_batch(a_commit(partition=3))


@pytest.mark.parametrize("changes", [{"spec_digest": OTHER}, {"partitions": 8}])
async def test_another_spec_or_partition_count_is_refused(
    stores: Stores, changes: dict[str, Any]
) -> None:
    store = await opened(stores)
    await store.commit_batch(a_commit())
    other = stores(**changes)
    with pytest.raises(SchemaMismatch, match="riskbeat rebuild"):
        await other.attach()
    with pytest.raises(SchemaMismatch, match="riskbeat rebuild"):
        await other.check_readable()
    with pytest.raises(SchemaMismatch):
        await other.open_partition(1, 0)
    with pytest.raises(SchemaMismatch):
        await other.commit_batch(a_commit(expected_offset=7, next_offset=9))
    with pytest.raises(SchemaMismatch, match="riskbeat rebuild"):
        await other.read_many([b"x"])


async def test_many_states_fit_into_one_commit(stores: Stores) -> None:
    store = await opened(stores)
    states = {key: key * 20 for key in keys_of(1, 9_000)}
    await store.commit_batch(a_commit(states=states))
    keys = list(states)
    assert await store.load_many(1, [*keys[5000:], b"absent"]) == [
        *(states[key] for key in keys[5000:]),
        b"",
    ]


async def test_identities_are_kept_for_the_horizon(stores: Stores) -> None:
    store = await opened(stores)
    first, second = (np.array(ids, "<u8").tobytes() for ids in ([1, 2], [3]))
    young, old = DedupBucket(0, 119), DedupBucket(0, 60)
    await store.commit_batch(a_commit(dedup_add={young: first, old: second}))
    await store.commit_batch(
        a_commit(expected_offset=7, next_offset=8, dedup_add={young: second}, dedup_drop=[old])
    )
    meta = await store.open_partition(1, 0)
    assert await store.load_dedup(1, meta.watermarks, HOUR_MS) == {young: first + second}


async def test_a_routers_position_is_kept(stores: Stores) -> None:
    store = await opened(stores)
    assert await store.load_position("e", 3) is None
    await store.store_positions({("e", 3): 40, ("l", 3): 2})
    assert await stores().load_position("e", 3) == 40
    assert await stores().load_position("l", 3) == 2
