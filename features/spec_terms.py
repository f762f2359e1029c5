"""YAML nodes → event terms: features made from the event itself and from other features.

A category is an index for an embedding: 0 where the field is absent, else 1 + hash mod (n - 1).
"""

import difflib
from collections.abc import Mapping
from typing import Final

from features.spec_values import EventTerm
from features.spec_yaml import NAME, Place, duration_text

AMOUNT: Final = "event.amount"
CATEGORIES_MAX: Final = 32
CATEGORY_SIZE_MAX: Final = 2**20
CALENDAR: Final = {
    "hour": ("event.hour_sin", "event.hour_cos"),
    "weekday": ("event.weekday_sin", "event.weekday_cos"),
    "night": ("event.is_night",),
    "weekend": ("event.is_weekend",),
}


def read_terms(top: Mapping[str, Place], names: frozenset[str]) -> tuple[EventTerm, ...]:
    """Return the event's terms: amount, calendar, ratios, deviations, categories, in this order.

    Raises:
        SpecError: A name that is no feature, twice the same term, or a wrong shape.
    """
    terms = [EventTerm(AMOUNT, "amount")]
    if "calendar" in top:
        for item in top["calendar"].items():
            part = item.choice(CALENDAR)
            _add(terms, item, [EventTerm(name, "calendar") for name in CALENDAR[part]])
    known = names | {AMOUNT}
    if "ratios" in top:
        for item in top["ratios"].items():
            _add(terms, item, [_read_ratio(item, known)])
    if "deviations" in top:
        for entity, child in top["deviations"].mapping().items():
            for item in child.items():
                _add(terms, item, [_read_deviation(entity, item, known)])
    if "categories" in top:
        terms += _read_categories(top["categories"])
    return tuple(terms)


def _add(terms: list[EventTerm], place: Place, more: list[EventTerm]) -> None:
    if any(term.name == new.name for term in terms for new in more):
        raise place.error("this feature stands here twice")
    terms.extend(more)


def _read_ratio(place: Place, known: frozenset[str]) -> EventTerm:
    parts = [part.strip() for part in place.text().split(" / ")]
    if len(parts) != 2:
        raise place.error("expected two features, as in: event.amount / card.max_of_amount_over_7d")
    for part in parts:
        _check_known(place, part, known)
    return EventTerm(f"{parts[0]}_per_{parts[1]}", "ratio", (parts[0], parts[1]))


def _read_deviation(entity: str, place: Place, known: frozenset[str]) -> EventTerm:
    window = duration_text(place.duration_ms())
    mean = f"{entity}.mean_of_amount_over_{window}"
    std = f"{entity}.std_of_amount_over_{window}"
    _check_known(place, mean, known)
    _check_known(place, std, known)
    name = f"{entity}.deviation_of_amount_over_{window}"
    return EventTerm(name, "deviation", (AMOUNT, mean, std))


def _read_categories(place: Place) -> list[EventTerm]:
    children = place.mapping()
    if not 1 <= len(children) <= CATEGORIES_MAX:
        raise place.error(f"expected 1 to {CATEGORIES_MAX} categories")
    terms = []
    for field, child in children.items():
        if not NAME.fullmatch(field):
            raise child.error("expected the name of an entity or of an attribute")
        size = child.integer(2, CATEGORY_SIZE_MAX)
        terms.append(EventTerm(f"event.index_of_{field}_in_{size}", "category", (field,), size))
    return terms


def _check_known(place: Place, name: str, known: frozenset[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise place.error(f"expected a feature that this file declares; {name!r} is none{hint}")
