"""Hot states: the entities of late, kept in memory up to so many bytes."""

from collections import OrderedDict
from collections.abc import Mapping

ENTRY_OVERHEAD_BYTES = 160  # of one entry, beside key and blob


class HotStates:
    """Entity key → state; forgets the least recently changed ones beyond its bound."""

    def __init__(self, max_bytes: int) -> None:
        """Bound the memory, overhead of the entries included."""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._states: OrderedDict[bytes, bytes] = OrderedDict()

    def __len__(self) -> int:
        """Return the count of states held."""
        return len(self._states)

    def get(self, key: bytes) -> bytes | None:
        """Return a state, `None` if it is not hot."""
        return self._states.get(key)

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

    def clear(self) -> None:
        """Forget everything."""
        self._states.clear()
        self._bytes = 0
