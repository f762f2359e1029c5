"""What a spec file says, once checked: entities, fields, filters, features, limits. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from features.event import SEPARATOR, AttributeValue, Event, EventRules
from features.spec_levels import Level

FieldKind: TypeAlias = Literal["hash", "latitude", "longitude"]
TestName: TypeAlias = Literal["is", "not", "present", "at_least", "above", "at_most", "below"]

AMOUNT_FIELD: Final = "amount"
EVENT_TYPE_FIELD: Final = "event_type"
NO_FILTER: Final = -1


@dataclass(frozen=True, slots=True)
class Currency:
    """How many base minor units one minor unit is: numerator / denominator, exactly."""

    numerator: int
    denominator: int


@dataclass(frozen=True, slots=True)
class Limits:
    """The named limits of a state, with their defaults."""

    head_events: int = 256
    label_head_events: int = 64
    dedup_horizon_ms: int = 3_600_000
    reorder_ms: int = 5_000
    blob_max_bytes: int = 16_384
    max_future_skew_ms: int = 60_000


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """Something of an event that an entity's rows remember, as 32 bits (0 where it is absent).

    Attributes:
        name: Of an entity of the event, or else of an attribute.
        kind: `hash` tells values apart; `latitude` and `longitude` are degrees.
    """

    name: str
    kind: FieldKind = "hash"


@dataclass(frozen=True, slots=True)
class Condition:
    """One test of one field of an event.

    Attributes:
        field: `amount`, `event_type`, or the name of an entity or of an attribute.
        values: Texts, for `is` and `not`.
        bound: For comparisons: base minor units for `amount`, else a number as written.
    """

    field: str
    test: TestName
    values: tuple[str, ...] = ()
    bound: float = 0

    def holds(self, event: Event, base_value: int | None) -> bool:
        """Whether the event meets it; an absent field meets nothing but `present: false`."""
        field, test = self.field, self.test
        value: AttributeValue
        if field == AMOUNT_FIELD:
            value = base_value
        elif field == EVENT_TYPE_FIELD:
            value = event.event_type
        else:
            value = event.entities.get(field)
            if value is None:
                value = event.attributes.get(field)
        if test == "present":
            return (value is not None) == (self.values == ("true",))
        if value is None:
            return False
        if test == "is":
            return text_of(value) in self.values
        if test == "not":
            return text_of(value) not in self.values
        return not isinstance(value, bool | str) and _compare(test, value, self.bound)


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """A named set of conditions that an event meets or does not."""

    name: str
    conditions: tuple[Condition, ...]

    def holds(self, event: Event, base_value: int | None) -> bool:
        """Whether the event meets all conditions.

        Args:
            event: The event.
            base_value: Its amount in base minor units; none without an amount.
        """
        return all([condition.holds(event, base_value) for condition in self.conditions])


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One feature of an entity.

    Attributes:
        aggregate: `count sum mean std min max first last ewma distinct label_count fraud_count
            fraud_rate` over a level; `since_last is_new changed distance speed` without.
        level: Index into the entity's levels; none for what has no window.
        field: Index into the entity's fields: of `distinct`, of `changed`, and of the latitude
            for `distance` and `speed` (the longitude is the field behind it); else none.
    """

    name: str
    aggregate: str
    level: int | None
    field: int | None


@dataclass(frozen=True, slots=True)
class EntitySpec:
    """One kind of thing that payments have in common: a card, a merchant, a card at a merchant.

    Attributes:
        key: Names of the event's entities that identify it together.
        levels: Sorted by filter (none, which is -1, first), then by window.
        fields: What its rows remember beside time and amount.
    """

    name: str
    index: int
    key: tuple[str, ...]
    levels: tuple[Level, ...]
    fields: tuple[FieldSpec, ...]
    features: tuple[FeatureSpec, ...]

    @property
    def windows_ms(self) -> tuple[int, ...]:
        """Window lengths, one for each level."""
        return tuple(level.window_ms for level in self.levels)

    @property
    def longest_window_ms(self) -> int:
        """The longest window of any level."""
        return max(level.window_ms for level in self.levels)

    @property
    def filter_bits(self) -> int:
        """The filters that its levels use, as a bit set."""
        bits = 0
        for level in self.levels:
            if level.filter != NO_FILTER:
                bits |= 1 << level.filter
        return bits

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names in vector order."""
        return tuple(feature.name for feature in self.features)

    def id_of(self, entities: Mapping[str, str]) -> str | None:
        """Return which one of this kind an event speaks of; none if a part of the key is absent.

        The parts are joined by a character that no identifier can hold.
        """
        key = self.key
        if len(key) == 1:
            return entities.get(key[0])
        parts = [entities.get(name) for name in key]
        known = [part for part in parts if part is not None]
        return SEPARATOR.join(known) if len(known) == len(parts) else None


@dataclass(frozen=True, slots=True)
class EventTerm:
    """One feature that is not read from a state.

    Attributes:
        kind: `amount`, `calendar` (the name says which), `ratio`, `deviation` or `category`.
        inputs: Names of the features that it is made from: (of, to) for a ratio,
            (value, mean, std) for a deviation; of a category, the field of the event.
        size: Of a category: how many indices there are, 0 for absent among them.
    """

    name: str
    kind: str
    inputs: tuple[str, ...] = ()
    size: int = 0


@dataclass(frozen=True, eq=False)
class SpecValues:
    """Everything that a spec file says.

    Attributes:
        entities: In file order; an entity's `index` is its place here.
        filters: Bit f of `EntityUpdates.filters` is of filter f.
        event_terms: Features made from the event and from other features, in vector order;
            they stand behind the features of the entities.
        base_digits: Decimal digits of the base currency's minor unit: 2 for cents.
        rates_version: Name of the rate table by which amounts become base minor units.
    """

    entities: tuple[EntitySpec, ...]
    filters: tuple[FilterSpec, ...]
    event_terms: tuple[EventTerm, ...]
    event_rules: EventRules
    base_currency: str
    base_digits: int
    currencies: Mapping[str, Currency]
    rates_version: str
    limits: Limits


def text_of(value: str | float | bool) -> str:
    """Return a value as a spec file would write it: `true` and `false` are small."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _compare(test: TestName, value: float, bound: float) -> bool:
    if test == "at_least":
        return value >= bound
    if test == "above":
        return value > bound
    if test == "at_most":
        return value <= bound
    return value < bound
