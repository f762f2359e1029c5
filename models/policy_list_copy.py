"""allow, deny and watch lists → the entries that an event meets: a scorer's own copy.

A scorer looks an entity up in its own memory, never in the store: a list holds when the store is
away, and costs no round trip. The copy follows the store's log of changes.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.event import Event, entity_key, identity_hash
from models.policy_lists import (
    EVERY_TENANT,
    LISTS,
    NEVER_MS,
    ListChange,
    ListEntry,
    ListKey,
    ListName,
)

ABOUTS_MAX = 65_536
"""Distinct texts that a copy keeps; entries beyond them are met without their text."""
MERGE_AT = 20_000
"""Changes beside the sorted entries before they are sorted in."""


class ListMatch(NamedTuple):
    """An entry that an event meets."""

    list: ListName
    entity: str
    id: str
    reason: str


class _Slot(NamedTuple):
    """What one entry says: until when, and the index of (list, reason)."""

    until_ms: int
    about: int


class ListCopy:
    """All entries in this process's memory, sorted by hash: about 20 bytes each.

    Two entities of n share a 64-bit hash with probability n²/2⁶⁵: 3·10⁻⁸ for a million.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._hashes: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._until_ms: NDArray[np.int64] = np.empty(0, np.int64)
        self._about: NDArray[np.int32] = np.empty(0, np.int32)
        self._loaded: list[tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]] = []
        self._changed: dict[int, dict[ListName, _Slot | None]] = {}
        self._abouts: list[tuple[ListName, str]] = [(name, "") for name in LISTS]
        self._about_of = {about: i for i, about in enumerate(self._abouts)}
        self._kinds: set[str] = set()
        self._tenants: set[str] = set()

    @property
    def count(self) -> int:
        """Entries, about: a change of one that is sorted in counts until it is sorted in, too."""
        added = sum(slot is not None for slots in self._changed.values() for slot in slots.values())
        return len(self._hashes) + added

    @property
    def bytes(self) -> int:
        """Memory of the sorted entries."""
        return self._hashes.nbytes + self._until_ms.nbytes + self._about.nbytes

    def load(self, entries: Sequence[ListEntry]) -> None:
        """Take further entries; they count once `settle` has sorted them in."""
        hashes = np.fromiter((_hash_of(entry) for entry in entries), np.uint64, len(entries))
        until = np.fromiter((entry.until_ms for entry in entries), np.int64, len(entries))
        about = np.fromiter((self._about_index(entry) for entry in entries), np.int32, len(entries))
        self._loaded.append((hashes, until, about))

    def settle(self) -> None:
        """Sort what was loaded; of an entry that came twice the later one stays."""
        mine = (self._hashes, self._until_ms, self._about)
        columns = zip(mine, *self._loaded, strict=True)
        self._hashes, self._until_ms, self._about = (np.concatenate(one) for one in columns)
        self._loaded = []
        lists = np.array([LISTS.index(name) for name, _ in self._abouts], np.int8)[self._about]
        order = np.lexsort((lists, self._hashes))
        same = np.zeros(len(order), np.bool_)
        if len(order):
            ordered, which = self._hashes[order], lists[order]
            same[:-1] = (ordered[1:] == ordered[:-1]) & (which[1:] == which[:-1])
        self._take(order[~same])

    def change(self, changes: Sequence[ListChange]) -> None:
        """Follow changes of the store, in order."""
        for key, entry in changes:
            slots = self._changed.setdefault(_hash_of(key), {})
            slots[key.list] = (
                None if entry is None else _Slot(entry.until_ms, self._about_index(entry))
            )
            self._note(key)

    def matches(self, events: Sequence[Event], now_ms: int) -> list[list[ListMatch]] | None:
        """Return the entries that each event meets, the strictest list first; None: no event any.

        Args:
            events: Whose entities are looked up.
            now_ms: Wall clock; entries that ended by then do not count.
        """
        if not self._kinds:
            return None
        asked: list[tuple[int, str, str]] = []
        hashes: list[int] = []
        for index, event in enumerate(events):
            tenants = {EVERY_TENANT, event.tenant} & self._tenants
            for entity, entity_id in event.entities.items():
                if entity in self._kinds:
                    for tenant in tenants:
                        asked.append((index, entity, entity_id))
                        hashes.append(identity_hash_of(tenant, entity, entity_id))
        found = self._find(hashes, now_ms)
        if not found:
            return None
        rows: list[list[ListMatch]] = [[] for _ in events]
        for place, about in found:
            index, entity, entity_id = asked[place]
            name, reason = self._abouts[about]
            rows[index].append(ListMatch(name, entity, entity_id, reason))
        for row in rows:
            row.sort(key=lambda match: LISTS.index(match.list))
        return rows

    def _find(self, hashes: list[int], now_ms: int) -> list[tuple[int, int]]:
        """Return (place in `hashes`, about) of every entry that counts."""
        found: list[tuple[int, int]] = []
        if not hashes:
            return found
        if self._changed:
            for place, one in enumerate(hashes):
                for slot in (self._changed.get(one) or {}).values():
                    if slot is not None and _counts(slot.until_ms, now_ms):
                        found.append((place, slot.about))
        if len(self._hashes):
            wanted = np.array(hashes, np.uint64)
            at = np.searchsorted(self._hashes, wanted)
            at[at == len(self._hashes)] = 0
            for place in np.flatnonzero(self._hashes[at] == wanted).tolist():
                found += self._sorted_at(place, hashes[place], int(at[place]), now_ms)
        return found

    def _sorted_at(self, place: int, one: int, at: int, now_ms: int) -> list[tuple[int, int]]:
        """Return the sorted entries of a hash, without those that have changed since."""
        found = []
        changed = self._changed.get(one, {})
        while at < len(self._hashes) and int(self._hashes[at]) == one:
            about = int(self._about[at])
            if self._abouts[about][0] not in changed and _counts(int(self._until_ms[at]), now_ms):
                found.append((place, about))
            at += 1
        return found

    @property
    def crowded(self) -> bool:
        """Whether so many changes stand beside the sorted entries that `merged` is due."""
        return len(self._changed) > MERGE_AT

    def merged(self) -> "ListCopy":
        """Return a copy with the changes sorted in; this one may be read meanwhile."""
        other = ListCopy()
        other._abouts, other._about_of = self._abouts, self._about_of
        other._kinds, other._tenants = self._kinds, self._tenants
        changed = np.fromiter(self._changed, np.uint64, len(self._changed))
        kept = ~np.isin(self._hashes, changed)
        rows = [
            (one, slot)
            for one, slots in self._changed.items()
            for slot in self._all_of(one, slots).values()
            if slot is not None
        ]
        hashes = np.array([one for one, _ in rows], np.uint64)
        until = np.array([slot.until_ms for _, slot in rows], np.int64)
        about = np.array([slot.about for _, slot in rows], np.int32)
        other._hashes = np.concatenate([self._hashes[kept], hashes])
        other._until_ms = np.concatenate([self._until_ms[kept], until])
        other._about = np.concatenate([self._about[kept], about])
        other.settle()
        return other

    def _all_of(
        self, one: int, changed: Mapping[ListName, _Slot | None]
    ) -> dict[ListName, _Slot | None]:
        """Return what a hash says in all lists, changes before sorted entries."""
        slots: dict[ListName, _Slot | None] = {}
        at = int(np.searchsorted(self._hashes, np.uint64(one)))
        while at < len(self._hashes) and int(self._hashes[at]) == one:
            about = int(self._about[at])
            slots[self._abouts[about][0]] = _Slot(int(self._until_ms[at]), about)
            at += 1
        return slots | dict(changed)

    def _take(self, order: NDArray[np.int64]) -> None:
        self._hashes = self._hashes[order]
        self._until_ms = self._until_ms[order]
        self._about = self._about[order]

    def _about_index(self, entry: ListEntry) -> int:
        self._note(entry)
        about = (entry.list, entry.reason)
        index = self._about_of.get(about)
        if index is None:
            if len(self._abouts) >= ABOUTS_MAX:
                return LISTS.index(entry.list)
            index = self._about_of[about] = len(self._abouts)
            self._abouts.append(about)
        return index

    def _note(self, key: ListKey) -> None:
        self._kinds.add(key.entity)
        self._tenants.add(key.tenant)


def identity_hash_of(tenant: str, entity: str, entity_id: str) -> int:
    """Return the hash under which an entity's entries stand."""
    return identity_hash(entity_key(tenant, entity, entity_id).decode())


def _hash_of(key: ListKey) -> int:
    return identity_hash_of(key.tenant, key.entity, key.id)


def _counts(until_ms: int, now_ms: int) -> bool:
    return until_ms == NEVER_MS or until_ms > now_ms
