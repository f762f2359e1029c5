"""Commits and keys of a small feature store, with defaults."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from features.event import partition_of
from features.store import Commit, SourceMark, Watermarks

PARTITIONS = 4
DIGEST = "d" * 64
OTHER = "e" * 64
HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Stores:
    """Makes stores over one shelf, as several processes open one Redis; and empties the shelf."""

    make: Callable[..., Any]
    empty: Callable[[], Awaitable[None]]

    def __call__(self, **changes: Any) -> Any:
        return self.make(**changes)


def keys_of(partition: int, count: int) -> list[bytes]:
    found = (b"key%d" % i for i in range(100_000))
    mine = (key for key in found if partition_of(key, PARTITIONS) == partition)
    return [next(mine) for _ in range(count)]


def a_commit(partition: int = 1, **changes: Any) -> Commit:
    commit = Commit(
        partition=partition,
        expected_offset=0,
        next_offset=7,
        watermarks=Watermarks(e=[SourceMark(5, 2 * HOUR_MS, 0, 99)], l=[SourceMark(3, -1, 8, 98)]),
        fresh_until_ms=98,
        states={key: b"state of " + key for key in keys_of(partition, 2)},
    )
    return replace(commit, **changes)


async def opened(stores: Stores, partition: int = 1, **changes: Any) -> Any:
    store = stores(**changes)
    await store.attach()
    await store.open_partition(partition, 0)
    return store
