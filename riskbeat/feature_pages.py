"""Spec → what a person reads about it: every feature, what they cost, and one in full."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any, Final

from features.spec import EntitySpec, FeatureInfo, FeatureSpec, Level, Spec
from features.spec_levels import tile_ms_of
from features.spec_read import FEATURES_MAX
from features.spec_values import NO_FILTER
from features.spec_yaml import duration_text, span_text
from features.window_plan import state_bytes_max

NEAR_MAX: Final = 3
OF_LABELS: Final = frozenset({"label_count", "fraud_count", "fraud_rate"})
MISSING: Final = {
    "count": "never; 0 where nothing happened",
    "sum": "never; 0 where nothing happened",
    "distinct": "never; 0 where no event has the field",
    "label_count": "never; 0 where no label is known",
    "fraud_count": "never; 0 where no fraud is known",
    "fraud_rate": "where no label is known in the window",
    "std": "where the window holds no event; 0 where it holds one",
    "last": "where the window holds no other event",
    "since_last": "where no other event is remembered: none within the longest window",
    "is_new": "never",
    "calendar": "never",
    "category": "never; 0 where the event has none",
    "amount": "where the event has no amount",
    "ratio": "where either part is missing, or the second is 0",
    "deviation": "where a part is missing, or the standard deviation is 0",
    "changed": "where the event or the one before has none, and where no event asks",
    "distance": "where the event or the one before has no place, and where no event asks",
    "speed": "as the distance, and where no time lies between",
}
IN_WINDOW: Final = "where the window holds no event"


class UnknownFeature(LookupError):
    """The spec declares no feature of this name; the text names those that are near."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a feature comes from: its entity, and the level of its window if it has one."""

    entity: EntitySpec
    feature: FeatureSpec
    level: Level | None


@dataclass(frozen=True, slots=True)
class EntityCost:
    """What one kind of entity costs at most.

    Attributes:
        state_bytes_max: No state can be larger.
    """

    name: str
    key: tuple[str, ...]
    features: int
    windows: tuple[str, ...]
    state_bytes_max: int


@dataclass(frozen=True, slots=True)
class CoarseTiles:
    """A window whose tiles are wider than a 64th of it, so that a state fits its limit."""

    entity: str
    window: str
    tile_ms: int
    times_finest: int


@dataclass(frozen=True, slots=True)
class SpecReport:
    """What a check of a spec found.

    Attributes:
        of_event: Features that are made from the event and from other features.
        coarse: Windows whose tiles had to be wider than the finest.
    """

    digest: str
    features: int
    features_max: int
    of_event: int
    filters: int
    blob_max_bytes: int
    entities: tuple[EntityCost, ...]
    coarse: tuple[CoarseTiles, ...]


def find_feature(spec: Spec, name: str) -> FeatureInfo:
    """Return what one feature is.

    Raises:
        UnknownFeature: There is none of this name.
    """
    if name in spec.features:
        return spec.features[name]
    near = get_close_matches(name, spec.features, n=NEAR_MAX, cutoff=0.5)
    inside = [known for known in spec.features if name in known]
    hint = ", ".join(dict.fromkeys([*near, *inside[:NEAR_MAX]]))
    close = f"; close to it: {hint}" if hint else ""
    raise UnknownFeature(f"no feature is called {name!r}{close} (see `riskbeat features list`)")


def places_of(spec: Spec) -> dict[str, Place]:
    """Return where each feature that is read from a state comes from, by name."""
    return {
        feature.name: Place(
            entity, feature, None if feature.level is None else entity.levels[feature.level]
        )
        for entity in spec.entities
        for feature in entity.features
    }


def short_bounds(spec: Spec) -> dict[str, str]:
    """Return each feature's bound in a word or two, for a table with a legend."""
    places = places_of(spec)
    return {name: _short_bound(info, places.get(name)) for name, info in spec.features.items()}


def _short_bound(info: FeatureInfo, place: Place | None) -> str:
    if place is None:
        return "as its parts" if info.aggregate in ("ratio", "deviation") else "exact"
    if place.level is None or "beyond" not in info.bound:
        return "exact"
    tile = span_text(place.level.tile_ms)
    return f"{tile}, 13 %" if info.aggregate == "distinct" else tile


def report_of(spec: Spec) -> SpecReport:
    """Return what a check of a spec found."""
    costs = tuple(
        EntityCost(
            entity.name,
            entity.key,
            len(entity.features),
            tuple(_level_text(spec, level) for level in entity.levels),
            state_bytes_max(spec, entity),
        )
        for entity in spec.entities
    )
    return SpecReport(
        digest=spec.digest,
        features=spec.n_features,
        features_max=FEATURES_MAX,
        of_event=len(spec.event_terms),
        filters=len(spec.filters),
        blob_max_bytes=spec.limits.blob_max_bytes,
        entities=costs,
        coarse=tuple(_coarse(spec)),
    )


def _level_text(spec: Spec, level: Level) -> str:
    chosen = "" if level.filter == NO_FILTER else f" where {spec.filters[level.filter].name}"
    return f"{duration_text(level.window_ms)}{chosen}"


def _coarse(spec: Spec) -> Iterator[CoarseTiles]:
    for entity in spec.entities:
        for level in entity.levels:
            times = level.tile_ms // tile_ms_of(level.window_ms)
            if times > 1:
                yield CoarseTiles(entity.name, _level_text(spec, level), level.tile_ms, times)


def list_json(spec: Spec) -> dict[str, Any]:
    """Return every feature with all that is known of it."""
    rows = [asdict(info) | {"column": i} for i, info in enumerate(spec.features.values())]
    return {"digest": spec.digest, "features": rows}


def explain_rows(spec: Spec, info: FeatureInfo) -> list[tuple[str, str]]:
    """Return one feature in plain words: what is asked, and the answer."""
    place = places_of(spec).get(info.name)
    rows = [("means", info.text), ("type", _type_text(info))]
    if place is None:
        rows += [("made from", _parts_text(spec, info))]
    else:
        rows += [("entity", _entity_text(place.entity))]
    if info.window_ms is not None:
        window = duration_text(info.window_ms)
        rows += [("window", f"{window} up to t, the time of the question; {_own_text(info)}")]
    if info.filter is not None:
        rows += [("filter", f"{info.filter}: only events that meet it count")]
    rows += [("missing", MISSING.get(info.aggregate, IN_WINDOW)), ("bound", info.bound)]
    if place is None:
        rows += [("stored", "nowhere: it is made when it is asked for")]
    else:
        rows += [("stored", _stored_text(spec, place)), ("cost", _cost_text(spec, place))]
    users = [term.name for term in spec.event_terms if info.name in term.inputs]
    if users:
        rows += [("used by", ", ".join(users))]
    column = list(spec.features).index(info.name)
    return [*rows, ("column", f"{column} of {spec.n_features}, counted from 0")]


def _type_text(info: FeatureInfo) -> str:
    return info.type if info.unit == "1" else f"{info.type}, in {info.unit}"


def _own_text(info: FeatureInfo) -> str:
    if info.aggregate in OF_LABELS:
        return "labels count from when they became known"
    if info.aggregate == "last":
        return "the event that asks is left out"
    return "the event that asks is counted"


def _entity_text(entity: EntitySpec) -> str:
    if entity.key == (entity.name,):
        return entity.name
    return f"{entity.name}, told apart by {' + '.join(entity.key)}"


def _parts_text(spec: Spec, info: FeatureInfo) -> str:
    [term] = [term for term in spec.event_terms if term.name == info.name]
    return ", ".join(term.inputs) or "the event itself"


def _stored_text(spec: Spec, place: Place) -> str:
    limits, entity, level = spec.limits, place.entity, place.level
    of_labels = place.feature.aggregate in OF_LABELS
    rows = limits.label_head_events if of_labels else limits.head_events
    kind = "labels" if of_labels else "events"
    key = "␟".join(("<tenant>", entity.name, *(f"<{part}>" for part in entity.key)))
    whose = " and ".join(entity.key)
    text = f"in Redis, in the one state of each {whose} ({key}): the newest {rows} {kind}"
    if level is None:
        return text
    tiles = level.tiles_max(spec.reorder_ms)
    tile = span_text(level.tile_ms)
    return f"{text}, and up to {tiles} tiles of {tile} for what is older"


def _cost_text(spec: Spec, place: Place) -> str:
    most = state_bytes_max(spec, place.entity)
    read = f"none of its own to read: one read gives all {len(place.entity.features)} features"
    if place.level is None:
        return f"{read}; a state takes at most {most:,} B"
    tiles = place.level.bytes_max(spec.reorder_ms)
    shared = [
        other.name
        for other in place.entity.features
        if other.level == place.feature.level and other.name != place.feature.name
    ]
    kind = "labels" if place.feature.aggregate in OF_LABELS else "events"
    others = f" (they serve {', '.join(shared)} too)" if shared else ""
    return (
        f"{read}; the tiles of this window take at most {tiles:,} B of at most {most:,} B{others},"
        f" and nothing while all {kind} are among the newest"
    )
