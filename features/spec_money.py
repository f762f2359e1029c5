"""YAML nodes → what money is worth, what a state may take, which event types there are."""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from features.event import AMOUNT_MAX_MINOR, EventType
from features.spec_levels import BASE_VALUE_MAX
from features.spec_values import Currency, Limits
from features.spec_yaml import NAME, Place, duration_text

DAY_MS: Final = 86_400_000
_CODE = re.compile(r"[A-Z]{3}")


class Money(NamedTuple):
    """What amounts are counted in.

    Attributes:
        base: Code of the currency in whose minor units all amounts are summed.
        digits: Decimal digits of its minor unit: 2 for cents.
    """

    base: str
    digits: int
    rates_version: str
    currencies: dict[str, Currency]


def read_limits(place: Place) -> Limits:
    """Return the limits, each its default where the file is silent.

    Raises:
        SpecError: One is unknown, or out of its range.
    """
    # One event asks, and `last`, `changed` and the like look at the one before: two at least.
    counts = {"head_events": (2, 4096), "label_head_events": (1, 4096)}
    sizes = {"blob_max_bytes": (512, 1 << 20)}
    durations = {"dedup_horizon": 7 * DAY_MS, "reorder": 3_600_000, "max_future_skew": DAY_MS}
    given = place.mapping(allowed=frozenset(counts | sizes | durations))
    values: dict[str, int] = {}
    for name, child in given.items():
        if name in durations:
            values[f"{name}_ms"] = child.duration_ms()
            if values[f"{name}_ms"] > durations[name]:
                raise child.error(f"expected at most {duration_text(durations[name])}")
        else:
            values[name] = child.integer(*(counts | sizes)[name])
    return Limits(**values)


def read_money(place: Place) -> Money:
    """Return the base currency and the exact factors of all others.

    Raises:
        SpecError: A rate that is none, or that lets amounts outgrow the state's integers.
    """
    fields = frozenset({"base", "rates_version", "rates"})
    money = place.mapping(required=fields, allowed=fields)
    rows = money["rates"].mapping()
    base = money["base"].choice(rows)
    rates = {code: _read_rate(code, row) for code, row in rows.items()}
    if rates[base][0] != 1:
        raise rows[base].error('expected "1", the rate of the base currency')
    currencies = {}
    for code, (rate, digits) in rates.items():
        factor = Fraction(rate) * Fraction(10) ** (rates[base][1] - digits)
        if factor * AMOUNT_MAX_MINOR > BASE_VALUE_MAX:
            raise rows[code].error("expected a rate of at most 17 base minor units per minor unit")
        currencies[code] = Currency(factor.numerator, factor.denominator)
    return Money(base, rates[base][1], money["rates_version"].text(), currencies)


def read_event_types(place: Place, entities: tuple[str, ...]) -> dict[str, EventType]:
    """Return the event types.

    Args:
        place: Where they stand.
        entities: Names that a primary entity may have: those with a key of one part.

    Raises:
        SpecError: None at all, a name that is none, or a primary entity that is not declared.
    """
    kinds = {}
    for name, child in place.mapping().items():
        if not NAME.fullmatch(name):
            raise child.error("expected a name of small letters, digits and _")
        fields = child.mapping(
            required=frozenset({"primary"}), allowed=frozenset({"primary", "amount_required"})
        )
        primary = fields["primary"].choice(entities)
        required = "amount_required" not in fields or fields["amount_required"].flag()
        kinds[name] = EventType(primary, required)
    if not kinds:
        raise place.error("expected at least one event type")
    return kinds


def _read_rate(code: str, place: Place) -> tuple[Decimal, int]:
    """Return the rate, and how many digits the currency's minor unit has (2 unless given)."""
    if not _CODE.fullmatch(code):
        raise place.error("expected a currency code of three capital letters")
    if not place.is_mapping:
        return place.positive(), 2
    row = place.mapping(required=frozenset({"rate"}), allowed=frozenset({"rate", "minor_digits"}))
    digits = row["minor_digits"].integer(0, 4) if "minor_digits" in row else 2
    return row["rate"].positive(), digits
