"""YAML nodes → checked values of a spec: the grammar of features.yaml."""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from features.event import AMOUNT_MAX_MINOR, EventRules, EventType
from features.spec_levels import (
    BASE_VALUE_MAX,
    COLUMNS_OF,
    DISTINCT_SHIFT,
    Level,
    coarsen,
    heads_bytes_max,
    tile_ms_of,
)
from features.spec_terms import read_terms
from features.spec_values import Currency, EntitySpec, FeatureSpec, FieldSpec, Limits, SpecValues
from features.spec_yaml import Place, duration_text

ENTITIES_MAX: Final = 8
WINDOWS_MAX: Final = 12
FIELDS_MAX: Final = 8
FEATURES_MAX: Final = 512
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CODE = re.compile(r"[A-Z]{3}")
_OF_AMOUNT: Final = frozenset({"sum", "mean", "std", "min", "max"})
_AGGREGATES: Final = frozenset(COLUMNS_OF) | {"since_last"}
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class _Wish:
    """An aggregate over a window, as written, before levels have numbers."""

    aggregate: str
    field: str | None
    window_ms: int | None


def read_values(root: Place) -> SpecValues:
    """Check a spec file's nodes and return what they say.

    Raises:
        SpecError: Anything missing, unknown, out of range or contradictory.
    """
    top = root.mapping(
        required=frozenset({"money", "event_types", "entities"}),
        allowed=frozenset(
            {"money", "event_types", "limits", "entities", "calendar", "ratios", "deviations"}
        ),
    )
    limits = _read_limits(top["limits"]) if "limits" in top else Limits()
    base, version, currencies = _read_money(top["money"])
    entities = _read_entities(top["entities"], limits)
    names = frozenset(name for entity in entities for name in entity.feature_names)
    terms = read_terms(top, names)
    if len(names) + len(terms) > FEATURES_MAX:
        raise root.error(f"expected at most {FEATURES_MAX} features")
    kinds = _read_event_types(top["event_types"], entities)
    return SpecValues(
        entities=entities,
        filters=(),
        event_terms=terms,
        event_rules=EventRules(kinds, frozenset(currencies), limits.max_future_skew_ms / 1000),
        base_currency=base,
        currencies=currencies,
        rates_version=version,
        limits=limits,
    )


def _read_limits(place: Place) -> Limits:
    counts = {"head_events": (1, 4096), "label_head_events": (1, 4096)}
    sizes = {"blob_max_bytes": (512, 1 << 20)}
    durations = {"dedup_horizon": 7 * _DAY_MS, "reorder": 3_600_000, "max_future_skew": _DAY_MS}
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


def _read_money(place: Place) -> tuple[str, str, dict[str, Currency]]:
    fields = frozenset({"base", "rates_version", "rates"})
    money = place.mapping(required=fields, allowed=fields)
    rows = money["rates"].mapping()
    base = money["base"].choice(frozenset(rows))
    rates = {code: _read_rate(code, row) for code, row in rows.items()}
    if rates[base][0] != 1:
        raise rows[base].error('expected "1", the rate of the base currency')
    currencies = {}
    for code, (rate, digits) in rates.items():
        factor = Fraction(rate) * Fraction(10) ** (rates[base][1] - digits)
        if factor * AMOUNT_MAX_MINOR > BASE_VALUE_MAX:
            raise rows[code].error("expected a rate of at most 17 base minor units per minor unit")
        currencies[code] = Currency(factor.numerator, factor.denominator)
    return base, money["rates_version"].text(), currencies


def _read_rate(code: str, place: Place) -> tuple[Decimal, int]:
    """Return the rate, and how many digits the currency's minor unit has (2 unless given)."""
    if not _CODE.fullmatch(code):
        raise place.error("expected a currency code of three capital letters")
    if hasattr(place.node, "value") and isinstance(place.node.value, str):
        return place.decimal(), 2
    row = place.mapping(required=frozenset({"rate"}), allowed=frozenset({"rate", "minor_digits"}))
    digits = row["minor_digits"].integer(0, 4) if "minor_digits" in row else 2
    return row["rate"].decimal(), digits


def _read_event_types(place: Place, entities: tuple[EntitySpec, ...]) -> dict[str, EventType]:
    kinds = {}
    for name, child in place.mapping().items():
        if not _NAME.fullmatch(name):
            raise child.error("expected a name of small letters, digits and _")
        fields = child.mapping(
            required=frozenset({"primary"}), allowed=frozenset({"primary", "amount_required"})
        )
        primary = fields["primary"].choice(frozenset(entity.name for entity in entities))
        required = "amount_required" not in fields or fields["amount_required"].flag()
        kinds[name] = EventType(primary, required)
    if not kinds:
        raise place.error("expected at least one event type")
    return kinds


def _read_entities(place: Place, limits: Limits) -> tuple[EntitySpec, ...]:
    children = place.mapping()
    if not 1 <= len(children) <= ENTITIES_MAX:
        raise place.error(f"expected 1 to {ENTITIES_MAX} entities")
    return tuple(
        _read_entity(name, index, child, limits)
        for index, (name, child) in enumerate(children.items())
    )


def _read_entity(name: str, index: int, place: Place, limits: Limits) -> EntitySpec:
    if not _NAME.fullmatch(name) or name == "event":
        raise place.error("expected a name of small letters, digits and _, other than 'event'")
    wishes = [wish for kind, child in place.mapping(allowed=_AGGREGATES).items()
              for wish in _read_wishes(kind, child)]  # fmt: skip
    windows = sorted({wish.window_ms for wish in wishes if wish.window_ms is not None})
    fields = tuple(dict.fromkeys(wish.field for wish in wishes if wish.field is not None))
    if not 1 <= len(windows) <= WINDOWS_MAX:
        raise place.error(f"expected aggregates over 1 to {WINDOWS_MAX} different windows")
    if len(fields) > FIELDS_MAX:
        raise place.error(f"expected at most {FIELDS_MAX} fields")
    levels = tuple(Level(w, tile_ms_of(w), _columns(wishes, fields, w)) for w in windows)
    heads = heads_bytes_max(
        limits.head_events, limits.label_head_events, len(fields), windows[-1], limits.reorder_ms
    )
    try:
        levels = coarsen(levels, limits.blob_max_bytes - heads, limits.reorder_ms)
    except ValueError as error:
        raise place.error(
            f"expected a state of at most {limits.blob_max_bytes} bytes (limits.blob_max_bytes):"
            f" the heads take up to {heads}, and {error}; ask for less, or lower head_events"
        ) from error
    features = tuple(
        FeatureSpec(
            name=f"{name}.{_wish_text(wish)}",
            aggregate=wish.aggregate,
            level=None if wish.window_ms is None else windows.index(wish.window_ms),
            field=None if wish.field is None else fields.index(wish.field),
        )
        for wish in wishes
    )
    return EntitySpec(name, index, (name,), levels, tuple(map(FieldSpec, fields)), features)


def _read_wishes(kind: str, place: Place) -> list[_Wish]:
    if kind == "since_last":
        return [_Wish(kind, None, None)] if place.flag() else []
    if kind != "distinct":
        return [_Wish(kind, None, window) for window in _read_windows(place)]
    wishes = []
    for field, child in place.mapping().items():
        if not _NAME.fullmatch(field):
            raise child.error("expected the name of an entity or of an attribute")
        wishes += [_Wish(kind, field, window) for window in _read_windows(child)]
    return wishes


def _read_windows(place: Place) -> list[int]:
    windows: list[int] = []
    for item in place.items():
        window = item.duration_ms()
        if window in windows:
            raise item.error("this window stands here twice")
        if window > 400 * _DAY_MS:
            raise item.error("expected at most 400d")
        windows.append(window)
    return windows


def _columns(wishes: list[_Wish], fields: tuple[str, ...], window_ms: int) -> int:
    bits = 0
    for wish in wishes:
        if wish.window_ms == window_ms:
            for column in COLUMNS_OF[wish.aggregate]:
                bits |= 1 << column
            if wish.field is not None:
                bits |= 1 << (DISTINCT_SHIFT + fields.index(wish.field))
    return bits


def _wish_text(wish: _Wish) -> str:
    if wish.window_ms is None:
        return wish.aggregate
    text = f"distinct_{wish.field}" if wish.field else wish.aggregate
    if wish.aggregate in _OF_AMOUNT:
        text += "_of_amount"
    return f"{text}_over_{duration_text(wish.window_ms)}"
