"""YAML nodes → filters: named conditions that choose which events an aggregate counts."""

from decimal import Decimal
from typing import Final

from features.spec_levels import FILTERS_MAX
from features.spec_money import Money
from features.spec_values import (
    AMOUNT_FIELD,
    EVENT_TYPE_FIELD,
    Condition,
    FilterSpec,
    TestName,
)
from features.spec_yaml import NAME, Place

VALUES_MAX: Final = 256
LOWER: Final[tuple[TestName, ...]] = ("at_least", "above")
UPPER: Final[tuple[TestName, ...]] = ("at_most", "below")
_COMPARISONS: Final = LOWER + UPPER


def read_filters(
    place: Place, money: Money, event_types: tuple[str, ...]
) -> tuple[FilterSpec, ...]:
    """Return the filters, in file order.

    Raises:
        SpecError: Too many, a name that is none, or a condition that cannot mean anything.
    """
    children = place.mapping()
    if not 1 <= len(children) <= FILTERS_MAX:
        raise place.error(f"expected 1 to {FILTERS_MAX} filters")
    filters = []
    for name, child in children.items():
        if not NAME.fullmatch(name):
            raise child.error("expected a name of small letters, digits and _")
        conditions: list[Condition] = []
        for field, test in child.mapping().items():
            if not NAME.fullmatch(field):
                raise test.error(
                    "expected amount, event_type, or the name of an entity or of an attribute"
                )
            conditions += _read_conditions(field, test, money, event_types)
        if not conditions:
            raise child.error("expected at least one condition, as in {channel: [ecom, moto]}")
        filters.append(FilterSpec(name, tuple(conditions)))
    return tuple(filters)


def _read_conditions(
    field: str, place: Place, money: Money, event_types: tuple[str, ...]
) -> list[Condition]:
    if field == AMOUNT_FIELD:
        if not place.is_mapping:
            raise place.error(f"expected a comparison, as in {{at_least: 100}}: {_words()}")
        return _read_tests(field, place, (*_COMPARISONS, "present"), money)
    if field == EVENT_TYPE_FIELD:
        found = _read_tests(field, place, ("not",), None)
        known = ", ".join(sorted(event_types))
        for condition in found:
            for value in condition.values:
                if value not in event_types:
                    raise place.error(f"expected event types of this file: {known}; got {value!r}")
        return found
    return _read_tests(field, place, ("not", "present", *_COMPARISONS), None)


def _read_tests(
    field: str, place: Place, allowed: tuple[TestName, ...], money: Money | None
) -> list[Condition]:
    """Return what is asked of one field: a value, a list of them, or a mapping of tests."""
    if not place.is_mapping:
        return [Condition(field, "is", _read_values(place))]
    found: dict[str, Condition] = {}
    exact: dict[str, Decimal] = {}
    for name, child in place.mapping(allowed=frozenset(allowed)).items():
        if name == "not":
            found[name] = Condition(field, "not", _read_values(child))
        elif name == "present":
            found[name] = Condition(field, "present", ("true" if child.flag() else "false",))
        else:
            exact[name] = child.number()
            test = next(one for one in _COMPARISONS if one == name)
            found[name] = Condition(field, test, bound=_bound(child, exact[name], money))
    if not found:
        raise place.error(f"expected one of: {', '.join(sorted(allowed))}")
    _check_together(place, found, exact)
    return list(found.values())


def _check_together(place: Place, found: dict[str, Condition], exact: dict[str, Decimal]) -> None:
    """Refuse tests of one field that no value can pass together, or of which one says nothing."""
    for pair in (LOWER, UPPER):
        if all(name in exact for name in pair):
            raise place.error(f"expected {pair[0]} or {pair[1]}, not both")
    lower = next((name for name in LOWER if name in exact), None)
    upper = next((name for name in UPPER if name in exact), None)
    if lower and upper:
        closed = lower == "at_least" and upper == "at_most"
        low, high = exact[lower], exact[upper]
        if low > high or (low == high and not closed):
            raise place.error(f"expected a range; no number is {lower} {low} and {upper} {high}")
    if len(found) > 1 and "present" in found and found["present"].values == ("false",):
        raise place.error("expected nothing beside 'present: false': an absent field has no value")


def _read_values(place: Place) -> tuple[str, ...]:
    if not place.is_list:
        return (place.text(),)
    values: list[str] = []
    for item in place.items():
        value = item.text()
        if value in values:
            raise item.error("this value stands here twice")
        values.append(value)
    if not 1 <= len(values) <= VALUES_MAX:
        raise place.error(f"expected 1 to {VALUES_MAX} values")
    return tuple(values)


def _bound(place: Place, number: Decimal, money: Money | None) -> float:
    """Return what is compared with: base minor units, an integer, for the amount."""
    if money is None:
        return float(number)
    minor = number.scaleb(money.digits)
    if minor != minor.to_integral_value():
        raise place.error(f"expected at most {money.digits} decimals, those of {money.base}")
    return int(minor)


def _words() -> str:
    return ", ".join(_COMPARISONS)
