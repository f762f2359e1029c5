"""events or label transitions → EntityUpdates: what each entity learns from them, in columns.

The columns are what a state is made of, what the updates topic carries, and what the kernel reads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from features.event import (
    DEFAULT_TENANT,
    AttributeValue,
    Event,
    Id,
    Instant,
    Name,
    entity_key,
    identity_hash,
    identity_of,
    to_ms,
)
from features.spec import Currency, FieldSpec, Spec

SERIES_EVENT = 0
SERIES_LABEL = 1

__all__ = [
    "SERIES_EVENT",
    "SERIES_LABEL",
    "EntityUpdates",
    "LabelTransition",
    "base_value",
    "category_index",
    "concat_updates",
    "distinct_hash",
    "field_value",
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
        keys=[key for part in parts for key in part.keys],
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


def field_value(event: Event, field: FieldSpec) -> int:
    """Return what a row remembers of an event's field: a hash, or a place on a scale; 0 is absent.

    Degrees become millionths above -180°, plus one: steps of 11 cm or less on the ground.
    """
    name, kind = field.name, field.kind
    value: AttributeValue = event.entities.get(name)
    if value is None:
        value = event.attributes.get(name)
        if value is None:
            return 0
    if kind == "hash":
        return distinct_hash(value)
    limit = 90 if kind == "latitude" else 180
    if isinstance(value, bool | str) or not -limit <= value <= limit:
        return 0
    return round((value + 180) * 1_000_000) + 1


def category_index(event: Event, field: str, size: int) -> int:
    """Return a field's index for an embedding: 0 where absent, else 1 to size - 1, by its hash."""
    hashed = field_value(event, FieldSpec(field))
    return 1 + hashed % (size - 1) if hashed else 0


def updates_of_events(spec: Spec, events: Sequence[Event]) -> EntityUpdates:
    """Return one row for each event and each of its entities that the spec declares.

    Rows stand in event order, and within an event in the spec's order of entities.
    An event's currency must be one of the spec's (`parse_event` checks it).
    """
    rows = _Rows(spec.max_fields)
    keys, plain, ids, fields = rows.keys, rows.plain, rows.ids, rows.fields
    remembered, wanted = _wanted_of(spec)
    for index, event in enumerate(events):
        amount, entities, tenant = event.amount, event.entities, event.tenant
        value = 0 if amount is None else base_value(amount.value, spec.currencies[amount.currency])
        at_ms = event.event_time_ms
        hashed = identity_hash(identity_of(event))
        values = [field_value(event, field) for field in remembered]
        values.append(0)
        bits = 0
        for f, condition in enumerate(spec.filters):
            bits |= condition.holds(event, None if amount is None else value) << f
        for name, number, id_of, places in wanted:
            entity_id = entities.get(name) if id_of is None else id_of(entities)
            if entity_id is None:
                continue
            keys.append(entity_key(tenant, name, entity_id))
            plain.append((number, SERIES_EVENT, at_ms, 1, value, bits, index))
            ids.append(hashed)
            fields += [values[place] for place in places]
    return rows.columns()


def updates_of_transitions(spec: Spec, transitions: Sequence[LabelTransition]) -> EntityUpdates:
    """Return one row for each transition and each of its entities that the spec declares."""
    rows = _Rows(spec.max_fields)
    for index, transition in enumerate(transitions):
        at_ms = transition.label_time_ms
        hashed = identity_hash(transition.transition_id)
        value = transition.sign if transition.label == "fraud" else 0
        for entity in spec.entities:
            entity_id = entity.id_of(transition.entities)
            if entity_id is None:
                continue
            rows.keys.append(entity_key(transition.tenant, entity.name, entity_id))
            rows.plain.append((entity.index, SERIES_LABEL, at_ms, transition.sign, value, 0, index))
            rows.ids.append(hashed)
            rows.fields += [0] * spec.max_fields
    return rows.columns()


class _Wanted(NamedTuple):
    """What an event is asked for one entity.

    Attributes:
        number: Its index in the spec.
        id_of: None where the key is the entity itself, which a look-up answers.
        places: Of its fields among those that the event's fields are read into.
    """

    name: str
    number: int
    id_of: Callable[[Mapping[str, str]], str | None] | None
    places: list[int]


@lru_cache(maxsize=16)
def _wanted_of(spec: Spec) -> tuple[list[FieldSpec], list[_Wanted]]:
    """Return the fields that any entity remembers, each once, and what each entity asks."""
    remembered = list(dict.fromkeys(field for e in spec.entities for field in e.fields))
    absent = len(remembered)  # where every event has a 0, for entities with fewer fields
    wanted = []
    for entity in spec.entities:
        places = [remembered.index(field) for field in entity.fields]
        places += [absent] * (spec.max_fields - len(places))
        id_of = entity.id_of if len(entity.key) > 1 else None
        wanted.append(_Wanted(entity.name, entity.index, id_of, places))
    return remembered, wanted


class _Rows:
    """Rows as they are gathered, before they become columns."""

    def __init__(self, max_fields: int) -> None:
        self.max_fields = max_fields
        self.keys: list[bytes] = []
        self.plain: list[tuple[int, int, int, int, int, int, int]] = []
        self.ids: list[int] = []
        self.fields: list[int] = []

    def columns(self) -> EntityUpdates:
        """Return what was gathered as columns."""
        plain = np.array(self.plain, dtype=np.int64).reshape(len(self.keys), 7)
        return EntityUpdates(
            keys=self.keys,
            entity=plain[:, 0].astype(np.uint8),
            series=plain[:, 1].astype(np.uint8),
            time_ms=plain[:, 2].copy(),
            id=np.array(self.ids, dtype=np.uint64),
            count=plain[:, 3].copy(),
            value=plain[:, 4].copy(),
            fields=np.array(self.fields, dtype=np.uint32).reshape(len(self.keys), self.max_fields),
            filters=plain[:, 5].astype(np.uint8),
            row_event=plain[:, 6].astype(np.int32),
        )
