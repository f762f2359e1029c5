"""features.yaml → Spec: which features there are, what they mean, and how exact they are.

A feature's name is its definition: `card.sum_of_amount_over_1h`. The digest names the whole
meaning; states, vectors and weights carry it, and a mismatch is refused by name.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from features.spec_explain import FeatureInfo, describe_all
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
from features.spec_yaml import SpecError, read_place

__all__ = [
    "Currency",
    "EntitySpec",
    "EventTerm",
    "FeatureInfo",
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
class Spec(SpecValues):
    """What the operator declared, checked, with all that follows from it."""

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
        return cls(**{field.name: getattr(values, field.name) for field in fields(SpecValues)})

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that gives a state or a vector its meaning."""
        content: dict[str, Any] = {
            "format": STATE_FORMAT,
            "entities": [asdict(entity) for entity in self.entities],
            "filters": [asdict(one) for one in self.filters],
            "event_terms": [asdict(term) for term in self.event_terms],
            "base": [self.base_currency, self.base_digits],
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
    def category_columns(self) -> Mapping[str, int]:
        """Feature name of each category → its column: an index, which is no quantity."""
        categories = {term.name for term in self.event_terms if term.kind == "category"}
        return {name: i for i, name in enumerate(self.feature_names) if name in categories}

    @cached_property
    def features(self) -> Mapping[str, FeatureInfo]:
        """Feature name → what it is, in vector order."""
        return describe_all(self)

    def describe(self, name: str) -> FeatureInfo:
        """Return what one feature is.

        Raises:
            KeyError: The spec has no such feature.
        """
        return self.features[name]

    @cached_property
    def feature_bounds(self) -> Mapping[str, str]:
        """Feature name → how exact it is, in a sentence."""
        return {name: info.bound for name, info in self.features.items()}

    @cached_property
    def feature_units(self) -> Mapping[str, str]:
        """Feature name → unit of its values."""
        return {name: info.unit for name, info in self.features.items()}
