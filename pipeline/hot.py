"""Hot states: the entities of late, kept in memory up to so many bytes."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ENTRY_OVERHEAD_BYTES = 160  # of one entry, beside key and blob


@dataclass(slots=True)
class CacheCounts:
    """What a cache was asked for, and what it let go for want of room."""

    hits: int = 0
    misses: int = 0
    evicted: int = 0


class HotStates:
    """Entity key → state; forgets the least recently changed ones beyond its bound."""

    def __init__(self, max_bytes: int) -> None:
        """Bound the memory, overhead of the entries included."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._states: OrderedDict[bytes, bytes] = OrderedDict()
        self._counts = CacheCounts()

    def __len__(self) -> int:
        """Return the count of states held."""
        return len(self._states)

    def get(self, key: bytes) -> bytes | None:
        """Return a state, `None` if it is not hot."""
        return self._states.get(key)

    @property
    def bytes_held(self) -> int:
        """Bytes of keys and states, overhead of the entries included."""
        return self._bytes

    def take_counts(self) -> CacheCounts:
        """Return what was counted since the last call."""
        counts, self._counts = self._counts, CacheCounts()
        return counts

    def count(self, found: Sequence[bytes | None]) -> None:
        """Count what `get` returned, many at a time."""
        misses = found.count(None)
        self._counts.misses += misses
        self._counts.hits += len(found) - misses

    def keep(self, states: Mapping[bytes, bytes]) -> None:
        """Remember changed states, and let the oldest go."""
        hot = self._states
        for key, blob in states.items():
            old = hot.pop(key, None)
            if old is None:
                self._bytes += len(key) + ENTRY_OVERHEAD_BYTES
            else:
                self._bytes -= len(old)
            hot[key] = blob
            self._bytes += len(blob)
        while self._bytes > self._max_bytes and hot:
            key, blob = hot.popitem(last=False)
            self._bytes -= len(key) + len(blob) + ENTRY_OVERHEAD_BYTES
            self._counts.evicted += 1

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._bytes = 0
