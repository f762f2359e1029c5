"""events or label transitions → EntityUpdates: what each entity learns from them, in columns.

The columns are what a state is made of, what the updates topic carries, and what the kernel reads.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from features.entity_updates import EntityUpdates, concat_updates
from features.event import (
    DEFAULT_TENANT,
    SEPARATOR,
    AttributeValue,
    Event,
    Id,
    Instant,
    Name,
    entity_key,
    identity,
    identity_hash,
    to_ms,
)
from features.spec import Currency, FieldSpec, Spec
from features.spec_values import FilterSpec

SERIES_EVENT = 0
SERIES_LABEL = 1
_IdOf: TypeAlias = Callable[[Mapping[str, str]], str | None]

HASHES_KEPT = 1 << 16  # of field values seen of late, about 200 bytes each

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
    return _text_hash(value if type(value) is str else str(value))


@lru_cache(maxsize=HASHES_KEPT)
def _text_hash(text: str) -> int:
    return xxhash.xxh32_intdigest(text.encode()) or 1


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
    plan = _plan_events(spec)
    currencies, filters = spec.currencies, plan.filters
    keys: list[bytes] = []
    owners: list[int] = []  # event · entities + entity, of each row
    of_event: list[int] = []  # time, value, filters of each event
    ids: list[int] = []
    fields: list[int] = []
    prefixed, prefixes = "", plan.prefixes_of("")
    at = 0
    for event in events:
        amount, entities, tenant = event.amount, event.entities, event.tenant
        value = 0 if amount is None else base_value(amount.value, currencies[amount.currency])
        bits, known = 0, None if amount is None else value
        for bit, condition in filters:
            if condition.holds(event, known):
                bits |= bit
        of_event += (to_ms(event.event_time), value, bits)
        ids.append(identity_hash(identity(tenant, event.event_type, event.event_id)))
        for name, field in plan.fields:
            if field is not None:
                fields.append(field_value(event, field))
                continue
            text: AttributeValue = entities.get(name)
            if text is None:
                text = event.attributes.get(name)
            fields.append(0 if text is None else distinct_hash(text))
        fields.append(0)
        if tenant != prefixed:
            prefixed, prefixes = tenant, plan.prefixes_of(tenant)
        for name, key, prefix in prefixes:
            entity_id = entities.get(name) if key is None else key(entities)
            if entity_id is not None:
                keys.append((prefix + entity_id).encode())
                owners.append(at)
            at += 1
    return _spread(plan, keys, owners, of_event, ids, fields)


@dataclass(frozen=True, slots=True, eq=False)
class _EventPlan:
    """What is asked of each event.

    Attributes:
        keys: Name of each entity; and how its id is found, where it is not that of one entity.
        fields: Every field that some entity remembers: its name, and how it is read where it is
            not by its hash.
        filters: The bit of each filter, and the filter.
        places: int, (entities, max_fields): which of `fields` a row of the entity holds; one
            behind the last is always absent.
    """

    keys: tuple[tuple[str, _IdOf | None], ...]
    fields: tuple[tuple[str, FieldSpec | None], ...]
    filters: tuple[tuple[int, FilterSpec], ...]
    places: NDArray[np.intp]

    def prefixes_of(self, tenant: str) -> list[tuple[str, _IdOf | None, str]]:
        """Return `keys`, and with each how the entity keys of a tenant begin (`entity_key`)."""
        return [(name, key, f"{tenant}{SEPARATOR}{name}{SEPARATOR}") for name, key in self.keys]


@lru_cache(maxsize=16)
def _plan_events(spec: Spec) -> _EventPlan:
    fields = tuple(dict.fromkeys(field for e in spec.entities for field in e.fields))
    places = np.full((len(spec.entities), spec.max_fields), len(fields), dtype=np.intp)
    for e, entity in enumerate(spec.entities):
        places[e, : len(entity.fields)] = [fields.index(field) for field in entity.fields]
    keys = tuple((e.name, None if e.key == (e.name,) else e.id_of) for e in spec.entities)
    read = tuple((field.name, None if field.kind == "hash" else field) for field in fields)
    filters = tuple((1 << f, condition) for f, condition in enumerate(spec.filters))
    return _EventPlan(keys, read, filters, places)


def _spread(
    plan: _EventPlan,
    keys: list[bytes],
    owners: list[int],
    of_event: list[int],
    ids: list[int],
    fields: list[int],
) -> EntityUpdates:
    """Give each row what was gathered once for its event."""
    n = len(keys)
    event, entity = np.divmod(np.array(owners, dtype=np.int64), len(plan.keys))
    numbers = np.array(of_event, dtype=np.int64).reshape(-1, 3)[event]
    remembered = np.array(fields, dtype=np.uint32).reshape(-1, len(plan.fields) + 1)
    return EntityUpdates(
        keys=keys,
        entity=entity.astype(np.uint8),
        series=np.full(n, SERIES_EVENT, dtype=np.uint8),
        time_ms=numbers[:, 0],
        id=np.array(ids, dtype=np.uint64)[event],
        count=np.ones(n, dtype=np.int64),
        value=numbers[:, 1],
        fields=remembered[event[:, None], plan.places[entity]],
        filters=numbers[:, 2].astype(np.uint8),
        row_event=event.astype(np.int32),
    )


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
