"""update rows → columns that stay, addressed by slot: where an overlay keeps what it holds."""

import numpy as np

from features.update import EntityUpdates

ROWS_AT_FIRST = 4_096
_COLUMNS = ("entity", "series", "time_ms", "id", "count", "value", "fields", "filters")


class Rows:
    """Update rows in preallocated columns, addressed by slot; grows by doubling, never shrinks."""

    def __init__(self, max_fields: int) -> None:
        """Hold nothing; `max_fields` is the number of columns of `EntityUpdates.fields`."""
        self._free: list[int] = []
        self._columns = _empty(0, max_fields)

    def put(self, updates: EntityUpdates) -> list[int]:
        """Copy rows in; return their slots."""
        count = len(updates)
        if len(self._free) < count:
            self._grow(count)
        keep = len(self._free) - count
        slots = self._free[keep:]
        del self._free[keep:]
        for name in _COLUMNS:
            getattr(self._columns, name)[slots] = getattr(updates, name)
        return slots

    def take(self, keys: list[bytes], slots: list[int], question: list[int]) -> EntityUpdates:
        """Return rows, in this order."""
        index = np.asarray(slots, np.intp)
        return EntityUpdates(
            keys=keys,
            row_event=np.asarray(question, np.int32),
            **{name: getattr(self._columns, name)[index] for name in _COLUMNS},
        )

    def free(self, slots: list[int]) -> None:
        """Let slots be written again."""
        self._free.extend(slots)

    def _grow(self, count: int) -> None:
        old = self._columns
        size = len(old.time_ms)
        more = max(ROWS_AT_FIRST, size, count)
        self._columns = _empty(size + more, old.fields.shape[1])
        for name in _COLUMNS:
            getattr(self._columns, name)[:size] = getattr(old, name)
        self._free.extend(range(size, size + more))


def _empty(rows: int, max_fields: int) -> EntityUpdates:
    return EntityUpdates(
        keys=[],
        entity=np.zeros(rows, np.uint8),
        series=np.zeros(rows, np.uint8),
        time_ms=np.zeros(rows, np.int64),
        id=np.zeros(rows, np.uint64),
        count=np.zeros(rows, np.int64),
        value=np.zeros(rows, np.int64),
        fields=np.zeros((rows, max_fields), np.uint32),
        filters=np.zeros(rows, np.uint8),
        row_event=np.zeros(0, np.int32),
    )
