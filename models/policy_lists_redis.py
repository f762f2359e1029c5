"""allow, deny and watch lists in Redis or Valkey, single node or cluster.

Under `{prefix}{policy}:` stand `entries` (key → entry), `counts` (list → entries) and `log`, a
stream of changes that scorers follow: its reader loses nothing when it reconnects.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from features.event import SEPARATOR
from features.faults_redis import ask
from models import policy_scripts as scripts
from models.policy_lists import (
    CHANGE_MAX,
    ENTRIES_MAX,
    LISTS,
    ListChange,
    ListEntry,
    ListKey,
    ListName,
    ListsFull,
    ListsTrimmed,
    ListsUnavailable,
)

LOG_MAX = 5_000
READ_MAX = 50
SCAN_COUNT = 2_000
START = "0-0"

_changes = msgspec.json.Decoder(list[tuple[ListKey, ListEntry | None]])


class RedisLists:
    """`policy_lists.ListStore` on a Redis client that returns bytes."""

    def __init__(self, client: Any, prefix: str, entries_max: int = ENTRIES_MAX) -> None:
        """Take a client, which stays its owner's to close.

        Args:
            client: Asyncio, single or cluster, with `decode_responses=False`.
            prefix: Of every key, as in `riskbeat:`.
            entries_max: In all lists together.
        """
        self._client = client
        self._entries_max = entries_max
        self._entries, self._counts, self._log = (
            f"{prefix}{{policy}}:{name}" for name in ("entries", "counts", "log")
        )

    async def put_many(self, entries: Sequence[ListEntry]) -> int:
        """Put entries, each in its predecessor's place; see the port."""
        assert len(entries) <= CHANGE_MAX
        change = _encode([(_key_of(entry), entry) for entry in entries])
        args: list[Any] = [self._entries_max, LOG_MAX, change]
        for entry in entries:
            args += [_field(entry), msgspec.json.encode(entry), entry.list]
        added = int(await self._run(scripts.LIST_PUT, args))
        if added < 0:
            raise ListsFull(f"lists hold at most {self._entries_max} entries; nothing was put")
        return added

    async def remove_many(self, keys: Sequence[ListKey]) -> int:
        """Take out entries; see the port."""
        assert len(keys) <= CHANGE_MAX
        args: list[Any] = [LOG_MAX, _encode([(_key_of(key), None) for key in keys])]
        for key in keys:
            args += [_field(key), key.list]
        return int(await self._run(scripts.LIST_REMOVE, args))

    async def find(self, keys: Sequence[ListKey]) -> list[ListEntry | None]:
        """Return what stands under keys."""
        found = await self._ask("HMGET", self._entries, *(_field(key) for key in keys))
        return [None if data is None else _entry(data) for data in found]

    async def scan(self) -> AsyncIterator[list[ListEntry]]:
        """Yield all entries; see the port."""
        cursor = 0
        while True:
            cursor, flat = await self._ask("HSCAN", self._entries, cursor, "COUNT", SCAN_COUNT)
            values = list(flat.values()) if isinstance(flat, dict) else flat[1::2]
            yield [_entry(data) for data in values]
            if not int(cursor):
                return

    async def counts(self) -> Mapping[ListName, int]:
        """Return how many entries each list has."""
        found = await self._ask("HMGET", self._counts, *LISTS)
        return {name: int(count or 0) for name, count in zip(LISTS, found, strict=True)}

    async def position(self) -> str:
        """Return where the log of changes ends."""
        return (await self._read(START, 1))[1]

    async def changes_since(self, position: str) -> tuple[list[ListChange], str]:
        """Return changes after a position; see the port."""
        first, last, records = await self._read(position, READ_MAX)
        if _number(last) < _number(position):
            raise ListsTrimmed("the store was emptied")
        if position != START and _number(first) > _number(position):
            raise ListsTrimmed(f"the log begins at {first}, after {position}")
        changes: list[ListChange] = []
        for place, fields in records:
            position = place.decode()
            changes += [ListChange(*pair) for pair in _changes.decode(fields[1])]
        return changes, position

    async def _read(self, position: str, count: int) -> tuple[str, str, list[Any]]:
        first, last, records = await self._ask(
            "EVAL_RO", scripts.LIST_CHANGES, 1, self._log, position, count
        )
        return first.decode(), last.decode(), records

    async def _run(self, script: str, args: Sequence[Any]) -> Any:
        keys = (self._entries, self._counts, self._log)
        return await self._ask("EVAL", script, len(keys), *keys, *args)

    async def _ask(self, *command: Any) -> Any:
        return await ask(self._client, ListsUnavailable, *command)


def _field(key: ListKey) -> str:
    return SEPARATOR.join((key.list, key.tenant, key.entity, key.id))


def _key_of(key: ListKey) -> ListKey:
    return ListKey(list=key.list, entity=key.entity, id=key.id, tenant=key.tenant)


def _encode(pairs: Sequence[tuple[ListKey, ListEntry | None]]) -> bytes:
    return msgspec.json.encode(pairs)


def _entry(data: bytes) -> ListEntry:
    return msgspec.json.decode(data, type=ListEntry)


def _number(place: str) -> tuple[int, int]:
    first, _, second = place.partition("-")
    return int(first), int(second)
