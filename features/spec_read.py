"""YAML nodes → checked values of a spec: the grammar of features.yaml, from the top."""

from collections.abc import Mapping
from typing import Final

from features.event import EventRules
from features.spec_entity import Grounds, read_entities
from features.spec_filters import read_filters
from features.spec_money import read_event_types, read_limits, read_money
from features.spec_terms import read_terms
from features.spec_values import FieldSpec, FilterSpec, Limits, SpecValues
from features.spec_yaml import NAME, Place

FEATURES_MAX: Final = 512
REQUIRED: Final = ("money", "event_types", "entities")
OPTIONAL: Final = ("limits", "filters", "place", "calendar", "ratios", "deviations", "categories")


def read_values(root: Place) -> SpecValues:
    """Check a spec file's nodes and return what they say.

    Raises:
        SpecError: Anything missing, unknown, out of range or contradictory.
    """
    top = root.mapping(required=REQUIRED, allowed=REQUIRED + OPTIONAL)
    limits = read_limits(top["limits"]) if "limits" in top else Limits()
    money = read_money(top["money"])
    filters: tuple[FilterSpec, ...] = ()
    if "filters" in top:
        filters = read_filters(top["filters"], money, tuple(top["event_types"].mapping()))
    grounds = Grounds(limits, tuple(one.name for one in filters), _read_place(top))
    entities = read_entities(top["entities"], grounds)
    names = frozenset(name for entity in entities for name in entity.feature_names)
    terms = read_terms(top, names)
    if len(names) + len(terms) > FEATURES_MAX:
        raise root.error(f"expected at most {FEATURES_MAX} features")
    plain = tuple(entity.name for entity in entities if entity.key == (entity.name,))
    kinds = read_event_types(top["event_types"], plain)
    return SpecValues(
        entities=entities,
        filters=filters,
        event_terms=terms,
        event_rules=EventRules(
            kinds, frozenset(money.currencies), limits.max_future_skew_ms / 1000
        ),
        base_currency=money.base,
        base_digits=money.digits,
        currencies=money.currencies,
        rates_version=money.rates_version,
        limits=limits,
    )


def _read_place(top: Mapping[str, Place]) -> tuple[FieldSpec, FieldSpec] | None:
    """Return which attributes are a latitude and a longitude, in degrees."""
    if "place" not in top:
        return None
    names = ("latitude", "longitude")
    parts = top["place"].mapping(required=names, allowed=names)
    for part in parts.values():
        if not NAME.fullmatch(part.text()):
            raise part.error("expected the name of an attribute")
    latitude, longitude = (parts[name].text() for name in names)
    if latitude == longitude:
        raise top["place"].error("expected two different attributes")
    return FieldSpec(latitude, "latitude"), FieldSpec(longitude, "longitude")
