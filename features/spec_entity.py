"""YAML nodes → entities: keys, aggregates, windows and filters become fields, levels, features."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from features.spec_levels import (
    DISTINCT_SHIFT,
    Level,
    coarsen,
    columns_of,
    heads_bytes_max,
    tile_ms_of,
)
from features.spec_money import DAY_MS
from features.spec_values import NO_FILTER, EntitySpec, FeatureSpec, FieldSpec, Limits
from features.spec_yaml import NAME, Place, duration_text

ENTITIES_MAX: Final = 8
KEY_PARTS_MAX: Final = 4
WINDOWS_MAX: Final = 12
LEVELS_MAX: Final = 24
WINDOW_DAYS_MAX: Final = 400
FIELDS_MAX: Final = 8
OF_AMOUNT: Final = ("sum", "mean", "std", "min", "max", "first", "last", "ewma")
OF_EVENTS: Final = ("count", *OF_AMOUNT)
OF_LABELS: Final = ("fraud_count", "label_count", "fraud_rate")
FLAGS: Final = ("since_last", "is_new", "distance")
WHERE: Final = (*OF_EVENTS, "distinct")
AGGREGATES: Final = (*WHERE, *OF_LABELS, *FLAGS, "changed", "where", "key")


class Grounds(NamedTuple):
    """What the rest of the file says that entities need.

    Attributes:
        filters: Names, in bit order.
        place: Fields of latitude and longitude, if the file names them.
    """

    limits: Limits
    filters: tuple[str, ...]
    place: tuple[FieldSpec, FieldSpec] | None


@dataclass(frozen=True, slots=True)
class _Wish:
    """One feature, as written, before its field and its level have numbers."""

    aggregate: str
    window_ms: int | None = None
    field: FieldSpec | None = None
    filter: int = NO_FILTER


def read_entities(place: Place, grounds: Grounds) -> tuple[EntitySpec, ...]:
    """Return the entities, in file order.

    Raises:
        SpecError: Anything unknown, out of range or contradictory, or states that grow too large.
    """
    children = place.mapping()
    if not 1 <= len(children) <= ENTITIES_MAX:
        raise place.error(f"expected 1 to {ENTITIES_MAX} entities")
    entities: list[EntitySpec] = []
    given = {name: child.mapping(allowed=AGGREGATES) for name, child in children.items()}
    plain = [name for name, body in given.items() if "key" not in body]
    for index, (name, body) in enumerate(given.items()):
        if not NAME.fullmatch(name) or name == "event":
            raise children[name].error(
                "expected a name of small letters, digits and _, other than 'event'"
            )
        key = _read_key(body.pop("key"), plain) if "key" in body else (name,)
        wishes = [
            wish for kind, child in body.items() for wish in _read_wishes(kind, child, grounds)
        ]
        entities.append(_entity(name, index, key, wishes, children[name], grounds))
    return tuple(entities)


def _read_key(place: Place, plain: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a composite key: entities of the file that are keyed by themselves."""
    parts: list[str] = []
    for item in place.items():
        part = item.choice(plain)
        if part in parts:
            raise item.error("this part stands here twice")
        parts.append(part)
    if not 2 <= len(parts) <= KEY_PARTS_MAX:
        raise place.error(f"expected 2 to {KEY_PARTS_MAX} entities, as in [card, merchant]")
    return tuple(parts)


def _read_wishes(kind: str, place: Place, grounds: Grounds, number: int = NO_FILTER) -> list[_Wish]:
    if kind == "where":
        return _read_where(place, grounds)
    if kind == "distance":
        return _read_distance(place, grounds)
    if kind in FLAGS:
        return [_Wish(kind)] if place.flag() else []
    if kind == "changed":
        fields = [_read_field(item.text(), item) for item in place.items()]
        for field in fields:
            if fields.count(field) > 1:
                raise place.error(f"{field.name!r} stands here twice")
        return [_Wish(kind, field=field) for field in fields]
    if kind != "distinct":
        return [_Wish(kind, window, filter=number) for window in _read_windows(place)]
    return [
        _Wish(kind, window, _read_field(name, child), number)
        for name, child in place.mapping().items()
        for window in _read_windows(child)
    ]


def _read_where(place: Place, grounds: Grounds) -> list[_Wish]:
    if not grounds.filters:
        raise place.error("expected filters, declared at the top of the file")
    return [
        wish
        for name, child in place.mapping(allowed=grounds.filters).items()
        for kind, windows in child.mapping(allowed=WHERE).items()
        for wish in _read_wishes(kind, windows, grounds, grounds.filters.index(name))
    ]


def _read_distance(place: Place, grounds: Grounds) -> list[_Wish]:
    if not place.flag():
        return []
    if grounds.place is None:
        raise place.error(
            "expected place, at the top of the file, as in {latitude: lat, longitude: lon}"
        )
    latitude, longitude = grounds.place
    return [_Wish("distance", field=latitude), _Wish("speed", field=longitude)]


def _read_field(name: str, place: Place) -> FieldSpec:
    if not NAME.fullmatch(name):
        raise place.error("expected the name of an entity or of an attribute")
    return FieldSpec(name)


def _read_windows(place: Place) -> list[int]:
    windows: list[int] = []
    for item in place.items():
        window = item.duration_ms()
        if window in windows:
            raise item.error("this window stands here twice")
        if window > WINDOW_DAYS_MAX * DAY_MS:
            raise item.error(f"expected at most {WINDOW_DAYS_MAX}d")
        windows.append(window)
    if not windows:
        raise place.error("expected at least one window, as in [10m, 1h]")
    return windows


def _entity(
    name: str,
    index: int,
    key: tuple[str, ...],
    wishes: list[_Wish],
    place: Place,
    grounds: Grounds,
) -> EntitySpec:
    windows = {(w.filter, w.window_ms) for w in wishes if w.window_ms is not None}
    lengths = {window for _, window in windows}
    if not 1 <= len(lengths) <= WINDOWS_MAX:
        raise place.error(
            f"expected aggregates over 1 to {WINDOWS_MAX} different windows, such as count: [30d];"
            " the longest says how far back a state remembers"
        )
    if len(windows) > LEVELS_MAX:
        raise place.error(
            f"expected at most {LEVELS_MAX} windows, those of each filter counted apart"
        )
    fields = tuple(dict.fromkeys(w.field for w in wishes if w.field is not None))
    if len(fields) > FIELDS_MAX:
        raise place.error(
            f"expected at most {FIELDS_MAX} fields, in distinct, changed and distance together"
        )
    places = sorted(windows)
    levels = _fitted(
        tuple(Level(w, tile_ms_of(w), _columns(wishes, fields, f, w), f) for f, w in places),
        fields,
        place,
        grounds.limits,
    )
    features = tuple(
        FeatureSpec(
            name=f"{name}.{_text(wish, grounds.filters)}",
            aggregate=wish.aggregate,
            level=None if wish.window_ms is None else places.index((wish.filter, wish.window_ms)),
            field=_index_of(wish, fields),
        )
        for wish in wishes
    )
    return EntitySpec(name, index, key, levels, fields, features)


def _fitted(
    levels: tuple[Level, ...], fields: tuple[FieldSpec, ...], place: Place, limits: Limits
) -> tuple[Level, ...]:
    """Return the levels with tiles as fine as `blob_max_bytes` lets them be."""
    longest = max(level.window_ms for level in levels)
    heads = heads_bytes_max(
        limits.head_events,
        limits.label_head_events,
        len(fields),
        longest,
        limits.reorder_ms,
        any(level.filter != NO_FILTER for level in levels),
    )
    try:
        return coarsen(levels, limits.blob_max_bytes - heads, limits.reorder_ms)
    except ValueError as error:
        raise place.error(
            f"expected a state of at most {limits.blob_max_bytes} bytes (limits.blob_max_bytes):"
            f" the heads take up to {heads}, and {error}; ask for less, or lower head_events"
        ) from error


def _index_of(wish: _Wish, fields: tuple[FieldSpec, ...]) -> int | None:
    if wish.field is None:
        return None
    at = fields.index(wish.field)
    return at - 1 if wish.aggregate == "speed" else at  # of the latitude, as for the distance


def _columns(
    wishes: list[_Wish], fields: tuple[FieldSpec, ...], number: int, window_ms: int
) -> int:
    bits = 0
    for wish in wishes:
        if (wish.filter, wish.window_ms) == (number, window_ms):
            for column in columns_of(wish.aggregate, wish.filter != NO_FILTER):
                bits |= 1 << column
            if wish.field is not None:
                bits |= 1 << (DISTINCT_SHIFT + fields.index(wish.field))
    return bits


def _text(wish: _Wish, filters: tuple[str, ...]) -> str:
    """Return a feature's name behind that of its entity."""
    if wish.aggregate == "distance":
        return "distance_from_last_km"
    if wish.aggregate == "speed":
        return "speed_from_last_km_per_h"
    text = f"{wish.aggregate}_{wish.field.name}" if wish.field else wish.aggregate
    if wish.window_ms is None:
        return text
    if wish.aggregate in OF_AMOUNT:
        text += "_of_amount"
    text += f"_over_{duration_text(wish.window_ms)}"
    return text if wish.filter == NO_FILTER else f"{text}_where_{filters[wish.filter]}"
