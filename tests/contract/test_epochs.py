"""What holds of a store's epochs over all specs: on the memory fake always, on Redis live."""

from typing import Any

import pytest

from features.epochs import in_use
from features.store import Pointer, SchemaMismatch, StoreConflict, StoreEpochMismatch
from tests.builders_store import DIGEST, OTHER, PARTITIONS, Stores, a_commit, keys_of, opened
from tests.conftest import CONTRACT_PARAMS, UNDER_RIGHTS_OF

pytestmark = pytest.mark.parametrize(
    "stores", [*CONTRACT_PARAMS, UNDER_RIGHTS_OF["operate"]], indirect=True
)  # people make epochs and drop them; a worker does not
TOPIC = "updates.v1"
(KEY,) = keys_of(1, 1)


async def rebuilt(stores: Stores, state: bytes = b"rebuilt", **changes: Any) -> tuple[Any, Pointer]:
    """Return a store that has filled partition 1 of a new epoch, which does not live yet."""
    store = stores(**changes)
    digest = changes.get("spec_digest", DIGEST)
    new = await store.epochs.allocate(1, TOPIC, PARTITIONS, digest)
    store = store.in_epoch(new.epoch, new.updates_topic)
    await store.open_partition(1, 0)
    await store.commit_batch(a_commit(next_offset=2, states={KEY: state}))
    return store, new


async def read_one(store: Any) -> bytes:
    (blob,) = (await store.read_many([KEY])).blobs
    return bytes(blob)


async def test_a_new_epoch_fences_the_old_ones_writers(stores: Stores) -> None:
    old, reader = await opened(stores), stores()
    await old.commit_batch(a_commit())
    before = await old.read_pointer()
    assert await read_one(reader) == a_commit().states[KEY]
    _, after = await rebuilt(stores)
    assert await read_one(reader) == a_commit().states[KEY]
    await old.epochs.flip(before, after)
    assert await read_one(reader) == b"rebuilt"
    with pytest.raises(StoreEpochMismatch):
        await old.commit_batch(a_commit(expected_offset=7, next_offset=9))
    with pytest.raises(StoreEpochMismatch):
        await old.open_partition(2, 0)
    with pytest.raises(StoreConflict):
        await old.epochs.flip(before, after)
    assert await stores().attach() == after == Pointer(1, f"{TOPIC}.e1", PARTITIONS, DIGEST)


async def test_two_specs_live_side_by_side(stores: Stores) -> None:
    old, old_reader, new_reader = await opened(stores), stores(), stores(spec_digest=OTHER)
    await old.commit_batch(a_commit())
    new, pointer = await rebuilt(stores, b"of the new spec", spec_digest=OTHER)
    with pytest.raises(SchemaMismatch, match="riskbeat rebuild"):
        await new_reader.read_many([KEY])
    await new.epochs.flip(None, pointer)
    assert await read_one(new_reader) == b"of the new spec"
    assert await read_one(old_reader) == a_commit().states[KEY]
    assert await stores(spec_digest=OTHER).attach() == pointer
    await old.commit_batch(a_commit(expected_offset=7, next_offset=9, states={KEY: b"old goes on"}))
    await new.commit_batch(a_commit(expected_offset=2, next_offset=3, states={KEY: b"so does new"}))
    assert [await read_one(old_reader), await read_one(new_reader)] == [
        b"old goes on",
        b"so does new",
    ]
    assert (await stores().attach()).epoch == 0


async def test_no_epoch_is_given_twice(stores: Stores) -> None:
    await stores().attach()
    epochs = stores().epochs
    given = [await epochs.allocate(1, TOPIC, PARTITIONS, d) for d in (DIGEST, OTHER, DIGEST)]
    await epochs.drop(given[-1])
    given.append(await epochs.allocate(1, TOPIC, PARTITIONS, OTHER))
    given.append(await epochs.allocate(9, TOPIC, PARTITIONS, OTHER))
    assert [p.epoch for p in given] == [1, 2, 3, 4, 9]
    assert [p.updates_topic for p in given][:2] == [f"{TOPIC}.e1", f"{TOPIC}.e2"]


async def test_a_retired_spec_is_refused_and_another_goes_on(stores: Stores) -> None:
    old, old_reader, new_reader = await opened(stores), stores(), stores(spec_digest=OTHER)
    await old.commit_batch(a_commit())
    await old.store_positions({("e", 3): 40})
    await read_one(old_reader)
    new, pointer = await rebuilt(stores, spec_digest=OTHER)
    await new.epochs.flip(None, pointer)
    assert await new.epochs.drop(await old.read_pointer()) >= 3  # two states and a mark
    with pytest.raises(SchemaMismatch, match="riskbeat rebuild"):
        await old_reader.read_many([KEY])
    with pytest.raises(SchemaMismatch, match="riskbeat rebuild"):
        await stores().attach()
    with pytest.raises(StoreEpochMismatch):
        await old.commit_batch(a_commit(expected_offset=7, next_offset=9))
    for partition in (1, 2):  # one that was written, and one that never was
        with pytest.raises(StoreEpochMismatch):
            await old.open_partition(partition, 0)
    assert await old.load_many(1, [KEY]) == [b""]
    assert await read_one(new_reader) == b"rebuilt"
    await new.commit_batch(a_commit(expected_offset=2, next_offset=3))
    again = Pointer(0, TOPIC, PARTITIONS, DIGEST)
    assert await new.epochs.drop(again) == await new.epochs.drop(again)


async def test_what_was_retired_cannot_come_alive(stores: Stores) -> None:
    await stores().attach()
    new, pointer = await rebuilt(stores, spec_digest=OTHER)
    await new.epochs.drop(pointer)
    with pytest.raises(StoreConflict):
        await new.epochs.flip(None, pointer)
    assert await stores(spec_digest=OTHER).read_pointer() is None


async def test_an_emptied_store_learns_again_what_its_workers_know(stores: Stores) -> None:
    old = await opened(stores)
    new, pointer = await rebuilt(stores, spec_digest=OTHER)
    await new.epochs.flip(None, pointer)
    worker = await opened(stores, spec_digest=OTHER)
    await stores.empty()
    with pytest.raises(StoreConflict):
        await worker.commit_batch(a_commit(expected_offset=2, next_offset=3))
    for store in (worker, old):
        await store.open_partition(1, 0)
    assert await stores(spec_digest=OTHER).attach() == pointer
    assert (await stores().attach()).epoch == 0
    assert (await old.epochs.allocate(1, TOPIC, PARTITIONS, DIGEST)).epoch == 2


async def test_in_an_emptied_store_one_spec_does_not_write_anothers_epoch(stores: Stores) -> None:
    old = await opened(stores)
    await stores.empty()
    await stores(spec_digest=OTHER).attach()  # the first to come takes epoch 0
    with pytest.raises(SchemaMismatch, match="riskbeat rebuild"):
        await old.open_partition(1, 0)


async def test_every_epoch_is_listed_with_what_it_is(stores: Stores) -> None:
    old = await opened(stores)
    await old.commit_batch(a_commit())
    before = await old.read_pointer()
    _, after = await rebuilt(stores)
    _, other = await rebuilt(stores, spec_digest=OTHER)
    await old.epochs.allocate(1, TOPIC, PARTITIONS, OTHER)
    assert [e.state for e in await old.epochs.list_epochs()] == ["alive", *["filling"] * 3]
    await old.epochs.flip(before, after)
    await old.epochs.drop(other)
    epochs = await old.epochs.list_epochs()
    assert [(e.pointer.epoch, e.state) for e in epochs] == [
        (0, "left"),
        (1, "alive"),
        (2, "gone"),
        (3, "filling"),
    ]
    assert epochs[1].pointer == after
    assert [e.pointer.epoch for e in in_use(epochs)] == [0, 1]
    assert epochs[3].written_at_s == 0
