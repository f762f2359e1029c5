"""Rows in columns: what entities learn, as states, the updates topic and the kernel take it."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class EntityUpdates:
    """Rows in columns: row i adds one fact to the state of the entity `keys[i]`.

    Attributes:
        keys: Entity keys (`features.event.entity_key`).
        entity: uint8, shape (n,): `EntitySpec.index`.
        series: uint8, shape (n,): 0 events, 1 labels.
        time_ms: int64, shape (n,): event time, or label time.
        id: uint64, shape (n,): hash of the identity, or of the transition id.
        count: int64, shape (n,): +1 for events, ±1 for labels.
        value: int64, shape (n,): base minor units, or ±1 for fraud and 0 for legit.
        fields: uint32, shape (n, spec.max_fields): each of the entity's fields; 0 where the event
            has none, and for labels.
        filters: uint8, shape (n,): bit f is set where the event meets filter f; 0 for labels.
        row_event: int32, shape (n,): which of the events (or transitions) a row comes from.
    """

    keys: list[bytes]
    entity: NDArray[np.uint8]
    series: NDArray[np.uint8]
    time_ms: NDArray[np.int64]
    id: NDArray[np.uint64]
    count: NDArray[np.int64]
    value: NDArray[np.int64]
    fields: NDArray[np.uint32]
    filters: NDArray[np.uint8]
    row_event: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.keys)

    def cut(self, begin: int, end: int) -> "EntityUpdates":
        """Return the rows from `begin` to `end`; the columns are views."""
        if begin == 0 and end == len(self):
            return self
        return EntityUpdates(
            keys=self.keys[begin:end],
            entity=self.entity[begin:end],
            series=self.series[begin:end],
            time_ms=self.time_ms[begin:end],
            id=self.id[begin:end],
            count=self.count[begin:end],
            value=self.value[begin:end],
            fields=self.fields[begin:end],
            filters=self.filters[begin:end],
            row_event=self.row_event[begin:end],
        )

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> "EntityUpdates":
        """Return the rows of these indices, in this order."""
        index = np.asarray(rows, dtype=np.intp)
        return EntityUpdates(
            keys=list(map(self.keys.__getitem__, index.tolist())),
            entity=self.entity[index],
            series=self.series[index],
            time_ms=self.time_ms[index],
            id=self.id[index],
            count=self.count[index],
            value=self.value[index],
            fields=self.fields[index],
            filters=self.filters[index],
            row_event=self.row_event[index],
        )


def concat_updates(parts: Sequence[EntityUpdates]) -> EntityUpdates:
    """Return the rows of all parts, one part after the other; there must be at least one part.

    `row_event` is kept as it stands in each part.
    """
    assert parts
    return EntityUpdates(
        keys=list(chain.from_iterable(part.keys for part in parts)),
        entity=np.concatenate([part.entity for part in parts]),
        series=np.concatenate([part.series for part in parts]),
        time_ms=np.concatenate([part.time_ms for part in parts]),
        id=np.concatenate([part.id for part in parts]),
        count=np.concatenate([part.count for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        fields=np.concatenate([part.fields for part in parts]),
        filters=np.concatenate([part.filters for part in parts]),
        row_event=np.concatenate([part.row_event for part in parts]),
    )
