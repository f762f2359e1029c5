"""events or label transitions → EntityUpdates: what each entity learns from them, in columns.

The columns are what a state is made of, what the updates topic carries, and what the kernel reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from features.event import (
    DEFAULT_TENANT,
    Event,
    Id,
    Instant,
    Name,
    entity_key,
    identity_hash,
    identity_of,
    to_ms,
)
from features.spec import Currency, Spec

SERIES_EVENT = 0
SERIES_LABEL = 1

__all__ = [
    "SERIES_EVENT",
    "SERIES_LABEL",
    "EntityUpdates",
    "LabelTransition",
    "base_value",
    "concat_updates",
    "distinct_hash",
    "updates_of_events",
    "updates_of_transitions",
]


class LabelTransition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change of an event's net label: the value of `label_updates.v1`.

    The first net label is a +1 at its label time. When it changes or is reversed, a -1 with the
    *same* label time as the row it removes is sent, so that every window sees both or neither.

    Attributes:
        seq: Number within a partition of `label_updates.v1`: 1, 2, 3 …; duplicates are told by it.
        transition_id: Names this transition; its hash is the row's id.
    """

    event_type: Name
    event_id: Id
    entities: dict[Name, Id]
    label_time: Instant
    label: Literal["fraud", "legit"]
    sign: Literal[1, -1]
    seq: Annotated[int, msgspec.Meta(ge=1)]
    transition_id: Annotated[str, msgspec.Meta(min_length=1)]
    tenant: Id = DEFAULT_TENANT

    @property
    def label_time_ms(self) -> int:
        """Label time in whole milliseconds since 1970 (floor)."""
        return to_ms(self.label_time)


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
        distinct: uint32, shape (n, spec.max_distinct): hash of each of the entity's distinct
            fields; 0 where the event has none.
        row_event: int32, shape (n,): which of the events (or transitions) a row comes from.
    """

    keys: list[bytes]
    entity: NDArray[np.uint8]
    series: NDArray[np.uint8]
    time_ms: NDArray[np.int64]
    id: NDArray[np.uint64]
    count: NDArray[np.int64]
    value: NDArray[np.int64]
    distinct: NDArray[np.uint32]
    row_event: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.keys)

    def take(self, rows: Sequence[int] | NDArray[np.integer]) -> "EntityUpdates":
        """Return the rows of these indices, in this order."""
        index = np.asarray(rows, dtype=np.intp)
        return EntityUpdates(
            keys=[self.keys[row] for row in index.tolist()],
            entity=self.entity[index],
            series=self.series[index],
            time_ms=self.time_ms[index],
            id=self.id[index],
            count=self.count[index],
            value=self.value[index],
            distinct=self.distinct[index],
            row_event=self.row_event[index],
        )


def concat_updates(parts: Sequence[EntityUpdates]) -> EntityUpdates:
    """Return the rows of all parts, one part after the other; there must be at least one part.

    `row_event` is kept as it stands in each part.
    """
    assert parts
    return EntityUpdates(
        keys=[key for part in parts for key in part.keys],
        entity=np.concatenate([part.entity for part in parts]),
        series=np.concatenate([part.series for part in parts]),
        time_ms=np.concatenate([part.time_ms for part in parts]),
        id=np.concatenate([part.id for part in parts]),
        count=np.concatenate([part.count for part in parts]),
        value=np.concatenate([part.value for part in parts]),
        distinct=np.concatenate([part.distinct for part in parts]),
        row_event=np.concatenate([part.row_event for part in parts]),
    )


def base_value(value: int, currency: Currency) -> int:
    """Return an amount in base minor units, exactly, rounded half to even."""
    if currency.numerator == currency.denominator:
        return value
    quotient, rest = divmod(value * currency.numerator, currency.denominator)
    twice = 2 * rest
    return quotient + (
        twice > currency.denominator or (twice == currency.denominator and quotient & 1)
    )


def distinct_hash(value: object) -> int:
    """Return the 32-bit hash by which distinct values are told apart; never 0.

    Two of n values collide with probability n²/2³³: 1 % for 9 000 values in one window.
    """
    return xxhash.xxh32_intdigest(str(value).encode()) or 1


def updates_of_events(spec: Spec, events: Sequence[Event]) -> EntityUpdates:
    """Return one row for each event and each of its entities that the spec declares.

    Rows stand in event order, and within an event in the spec's order of entities.
    An event's currency must be one of the spec's (`parse_event` checks it).
    """
    rows = _Rows(spec.max_distinct)
    keys, plain, ids, distinct = rows.keys, rows.plain, rows.ids, rows.distinct
    wanted = [
        (e.name, e.index, e.distinct_fields, [0] * (spec.max_distinct - len(e.distinct_fields)))
        for e in spec.entities
    ]
    for index, event in enumerate(events):
        amount, entities = event.amount, event.entities
        value = 0 if amount is None else base_value(amount.value, spec.currencies[amount.currency])
        at_ms = event.event_time_ms
        hashed = identity_hash(identity_of(event))
        hashes: dict[str, int] = {}
        for name, number, fields, padding in wanted:
            entity_id = entities.get(name)
            if entity_id is None:
                continue
            keys.append(entity_key(event.tenant, name, entity_id))
            plain.append((number, SERIES_EVENT, at_ms, 1, value, index))
            ids.append(hashed)
            for field in fields:
                found = hashes.get(field)
                if found is None:
                    found = hashes[field] = _field_hash(event, field)
                distinct.append(found)
            distinct += padding
    return rows.columns()


def updates_of_transitions(spec: Spec, transitions: Sequence[LabelTransition]) -> EntityUpdates:
    """Return one row for each transition and each of its entities that the spec declares."""
    rows = _Rows(spec.max_distinct)
    for index, transition in enumerate(transitions):
        at_ms = transition.label_time_ms
        hashed = identity_hash(transition.transition_id)
        value = transition.sign if transition.label == "fraud" else 0
        for entity in spec.entities:
            entity_id = transition.entities.get(entity.name)
            if entity_id is None:
                continue
            rows.keys.append(entity_key(transition.tenant, entity.name, entity_id))
            rows.plain.append((entity.index, SERIES_LABEL, at_ms, transition.sign, value, index))
            rows.ids.append(hashed)
            rows.distinct += [0] * spec.max_distinct
    return rows.columns()


def _field_hash(event: Event, field: str) -> int:
    value: object = event.entities.get(field)
    if value is None:
        value = event.attributes.get(field)
    return 0 if value is None else distinct_hash(value)


class _Rows:
    """Rows as they are gathered, before they become columns."""

    def __init__(self, max_distinct: int) -> None:
        self.max_distinct = max_distinct
        self.keys: list[bytes] = []
        self.plain: list[tuple[int, int, int, int, int, int]] = []
        self.ids: list[int] = []
        self.distinct: list[int] = []

    def columns(self) -> EntityUpdates:
        """Return what was gathered as columns."""
        plain = np.array(self.plain, dtype=np.int64).reshape(len(self.keys), 6)
        return EntityUpdates(
            keys=self.keys,
            entity=plain[:, 0].astype(np.uint8),
            series=plain[:, 1].astype(np.uint8),
            time_ms=plain[:, 2].copy(),
            id=np.array(self.ids, dtype=np.uint64),
            count=plain[:, 3].copy(),
            value=plain[:, 4].copy(),
            distinct=np.array(self.distinct, dtype=np.uint32).reshape(
                len(self.keys), self.max_distinct
            ),
            row_event=plain[:, 5].astype(np.int32),
        )
