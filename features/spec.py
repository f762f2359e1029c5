"""features.yaml → Spec: which features there are, what they mean, and how exact they are.

A feature's name is its definition: `card.sum_of_amount_over_1h`. The digest names the whole
meaning; states, vectors and weights carry it, and a mismatch is refused by name.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from features.event import EventRules
from features.spec_levels import Level
from features.spec_read import read_values
from features.spec_values import (
    Currency,
    EntitySpec,
    EventTerm,
    FeatureSpec,
    FieldSpec,
    FilterSpec,
    Limits,
    SpecValues,
)
from features.spec_yaml import SpecError, duration_text, read_place

__all__ = [
    "Currency",
    "EntitySpec",
    "EventTerm",
    "FeatureSpec",
    "FieldSpec",
    "FilterSpec",
    "Level",
    "Limits",
    "Spec",
    "SpecError",
]

STATE_FORMAT: Final = 2


@dataclass(frozen=True, eq=False)
class Spec:
    """What the operator declared, checked.

    Attributes:
        entities: In file order; an entity's `index` is its place here.
        filters: Named conditions; bit f of `EntityUpdates.filters` is of filter f.
        event_terms: Features made from the event and from other features, in vector order;
            they stand behind the features of the entities.
        rates_version: Name of the rate table by which amounts become base minor units.
    """

    entities: tuple[EntitySpec, ...]
    filters: tuple[FilterSpec, ...]
    event_terms: tuple[EventTerm, ...]
    event_rules: EventRules
    base_currency: str
    currencies: Mapping[str, Currency]
    rates_version: str
    limits: Limits

    @classmethod
    def load(cls, path: Path) -> "Spec":
        """Read and check a spec file.

        Raises:
            SpecError: It cannot mean what it says; the text names file, line, field and
                expectation.
        """
        return cls.of(read_values(read_place(path)))

    @classmethod
    def of(cls, values: SpecValues) -> "Spec":
        """Return the spec of values that were read."""
        return cls(
            entities=values.entities,
            filters=values.filters,
            event_terms=values.event_terms,
            event_rules=values.event_rules,
            base_currency=values.base_currency,
            currencies=values.currencies,
            rates_version=values.rates_version,
            limits=values.limits,
        )

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that gives a state or a vector its meaning."""
        content: dict[str, Any] = {
            "format": STATE_FORMAT,
            "entities": [asdict(entity) for entity in self.entities],
            "filters": [asdict(one) for one in self.filters],
            "event_terms": [asdict(term) for term in self.event_terms],
            "base": self.base_currency,
            "rates": {name: asdict(c) for name, c in self.currencies.items()},
            "rates_version": self.rates_version,
            "limits": asdict(self.limits),
            "event_types": {
                name: [kind.primary, kind.amount_required]
                for name, kind in self.event_rules.event_types.items()
            },
        }
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @cached_property
    def entity_index(self) -> Mapping[str, int]:
        """Entity name → its index."""
        return {entity.name: entity.index for entity in self.entities}

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names in vector order: the entities' features, then the event's terms."""
        of_entities = tuple(name for entity in self.entities for name in entity.feature_names)
        return of_entities + tuple(term.name for term in self.event_terms)

    @property
    def n_features(self) -> int:
        """Length of a vector."""
        return len(self.feature_names)

    @property
    def max_fields(self) -> int:
        """Most fields of any entity: the columns of `EntityUpdates.fields`."""
        return max(len(entity.fields) for entity in self.entities)

    @property
    def dedup_horizon_ms(self) -> int:
        """For how long an identity is remembered; older events are late."""
        return self.limits.dedup_horizon_ms

    @property
    def reorder_ms(self) -> int:
        """How far behind an entity's newest time a question is still answered in full."""
        return self.limits.reorder_ms

    @property
    def head_events(self) -> int:
        """How many newest events of an entity are kept one by one."""
        return self.limits.head_events

    @cached_property
    def longest_window_ms(self) -> int:
        """The longest window of any entity."""
        return max(level.window_ms for entity in self.entities for level in entity.levels)

    @cached_property
    def ttl_s(self) -> int:
        """Seconds after the last write after which no question can need a state (wall clock)."""
        widest = max(level.tile_ms for entity in self.entities for level in entity.levels)
        kept_ms = self.longest_window_ms + widest + self.dedup_horizon_ms + self.reorder_ms
        return kept_ms // 1000 + 1

    @cached_property
    def feature_bounds(self) -> Mapping[str, str]:
        """Feature name → how exact it is, in a sentence."""
        bounds = {
            feature.name: _bound(entity, feature, self.limits)
            for entity in self.entities
            for feature in entity.features
        }
        bounds |= {term.name: "as exact as what it is made from" for term in self.event_terms}
        return bounds


def _bound(entity: EntitySpec, feature: FeatureSpec, limits: Limits) -> str:
    if feature.level is None:
        return "exact to the millisecond"
    of_labels = feature.aggregate in ("label_count", "fraud_count", "fraud_rate")
    rows = limits.label_head_events if of_labels else limits.head_events
    tile = duration_text(entity.levels[feature.level].tile_ms)
    text = (
        f"exact to the millisecond while the window's {'labels' if of_labels else 'events'} are"
        f" among the newest {rows}; beyond them the far edge lies up to {tile} (one tile) early"
    )
    if feature.aggregate == "distinct":
        text += " and the number is estimated (64 registers, standard error 13 %)"
    return text
