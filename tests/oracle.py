"""Every aggregate from the plain list of rows: slow, and obviously right.

Nothing here is shared with the kernel but the spec's declarations. Python's integers are exact, so
sums, squares and variances here are the truth, and the kernel's floats are compared with them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.spec import Spec
from features.spec_levels import FRAUDS, ID_MASK, LABELS
from features.spec_values import EntitySpec, FeatureSpec
from features.update import EntityUpdates
from tests import oracle_answer as answer
from tests.oracle_answer import EARTH_KM, HALVINGS, NONE, OF_LABELS, Answer, rows_kept

EVENT, LABEL = 0, 1


@dataclass(frozen=True)
class Row:
    """One fact about one entity, as in `EntityUpdates`."""

    series: int
    time_ms: int
    id: int
    count: int = 1
    value: int = 0
    fields: tuple[int, ...] = ()
    filters: int = 0

    @property
    def order(self) -> tuple[int, int]:
        """Heads are ordered by time, then by as many bits of the id as a state keeps."""
        return self.time_ms, self.id & ID_MASK

    def asks(self, at_ms: int, own_id: int) -> bool:
        """Whether the question is this row's own."""
        return self.order == (at_ms, own_id & ID_MASK)


def updates_of(spec: Spec, entity: EntitySpec, rows: Sequence[Row]) -> EntityUpdates:
    """Return rows of one entity as columns."""
    n = len(rows)
    fields = np.zeros((n, spec.max_fields), dtype=np.uint32)
    for i, row in enumerate(rows):
        fields[i, : len(row.fields)] = row.fields[: spec.max_fields]
    return EntityUpdates(
        keys=[b"one"] * n,
        entity=np.full(n, entity.index, dtype=np.uint8),
        series=np.array([row.series for row in rows], dtype=np.uint8),
        time_ms=np.array([row.time_ms for row in rows], dtype=np.int64),
        id=np.array([row.id for row in rows], dtype=np.uint64),
        count=np.array([row.count for row in rows], dtype=np.int64),
        value=np.array([row.value for row in rows], dtype=np.int64),
        fields=fields,
        filters=np.array([row.filters for row in rows], dtype=np.uint8),
        row_event=np.arange(n, dtype=np.int32),
    )


class Oracle:
    """What one entity's state must say, from the set of its rows."""

    def __init__(self, spec: Spec, entity: EntitySpec, rows: Sequence[Row]) -> None:
        self.spec = spec
        self.entity = entity
        self.newest = max((row.time_ms for row in rows), default=-1)
        self.cutoff = [
            (self.newest - level.window_ms - spec.reorder_ms + 1) // level.tile_ms
            for level in entity.levels
        ]
        lowest = min(
            cut * level.tile_ms for cut, level in zip(self.cutoff, entity.levels, strict=True)
        )
        self.heads: list[list[Row]] = []
        self.behind: list[list[Row]] = []
        for series in (EVENT, LABEL):
            of_series = {row for row in rows if row.series == series and row.time_ms >= lowest}
            alive = sorted(of_series, key=lambda row: row.order)
            self.heads.append(alive[-rows_kept(spec, series) :])
            self.behind.append(alive[: -rows_kept(spec, series)])

    def late(self, at_ms: int, own_id: int) -> bool:
        """Whether rows that the question needs may be forgotten, or stand in tiles alone."""
        if at_ms < self.newest - self.spec.reorder_ms:
            return True
        events, labels = self.heads
        known = any(row.time_ms <= at_ms and not row.asks(at_ms, own_id) for row in events)
        too_new = any(at_ms < row.time_ms for row in labels[:1])
        return (not known and self._any_tiled(EVENT)) or (too_new and self._any_tiled(LABEL))

    def _any_tiled(self, series: int) -> bool:
        return any(self._tiled(series, index) for index in range(len(self.entity.levels)))

    def _tiled(self, series: int, index: int) -> list[Row]:
        """Return the rows that stand in a level's tiles."""
        level = self.entity.levels[index]
        of_labels = level.columns & (1 << LABELS | 1 << FRAUDS)
        if not (of_labels if series == LABEL else level.columns & ~of_labels):
            return []
        return [
            row
            for row in self.behind[series]
            if row.time_ms // level.tile_ms >= self.cutoff[index]
            and (level.filter < 0 or row.filters >> level.filter & 1)
        ]

    def answers(self, at_ms: int, own_id: int) -> list[Answer]:
        """Return the entity's features in vector order."""
        return [self._feature(feature, at_ms, own_id) for feature in self.entity.features]

    def _feature(self, feature: FeatureSpec, at_ms: int, own_id: int) -> Answer:
        if feature.level is None:
            return self._of_last(feature, at_ms, own_id)
        head, tiled = self._window(
            LABEL if feature.aggregate in OF_LABELS else EVENT, feature.level, at_ms
        )
        if feature.aggregate == "distinct":
            assert feature.field is not None
            return _distinct(head, tiled, feature.field)
        if feature.aggregate == "ewma":
            level = self.entity.levels[feature.level]
            return _ewma(head, tiled, at_ms, level.window_ms, level.tile_ms)
        if feature.aggregate == "last":
            head = [row for row in head if not row.asks(at_ms, own_id)]
            if self.entity.levels[feature.level].filter < 0:
                tiled = []  # the newest of all events is never behind the head
        return answer.of_window(feature.aggregate, _figures(tiled + head))

    def _window(self, series: int, index: int, at_ms: int) -> tuple[list[Row], list[Row]]:
        """Return the rows that count: the head's by the millisecond, the others by their tile."""
        level = self.entity.levels[index]
        head = [
            row
            for row in self.heads[series]
            if at_ms - level.window_ms < row.time_ms <= at_ms
            and (level.filter < 0 or row.filters >> level.filter & 1)
        ]
        if any(row.time_ms <= at_ms - level.window_ms for row in self.heads[series][:1]):
            return head, []  # what is behind is older still
        low = (at_ms - level.window_ms + 1) // level.tile_ms
        tiled = [
            row
            for row in self._tiled(series, index)
            if low <= row.time_ms // level.tile_ms <= at_ms // level.tile_ms
        ]
        return head, tiled

    def _of_last(self, feature: FeatureSpec, at_ms: int, own_id: int) -> Answer:
        """Return what the asking event is compared with the newest other one."""
        head = self.heads[EVENT]
        before = [row for row in head if row.time_ms <= at_ms]
        others = [row for row in before if not row.asks(at_ms, own_id)]
        if feature.aggregate == "is_new":
            return Answer(0.0 if others or self._any_tiled(EVENT) else 1.0)
        if not others:
            return NONE
        last = others[-1]
        if feature.aggregate == "since_last":
            return Answer((at_ms - last.time_ms) / 1000)
        if len(others) == len(before):
            return NONE  # the asking event is not there to be compared
        own = next(row for row in before if row.asks(at_ms, own_id))
        if feature.aggregate == "changed":
            assert feature.field is not None
            was, now = last.fields[feature.field], own.fields[feature.field]
            return Answer(float(was != now)) if was and now else NONE
        way = _way([field.kind for field in self.entity.fields], last.fields, own.fields)
        return way if feature.aggregate == "distance" else answer.speed(way, at_ms - last.time_ms)


def _figures(rows: list[Row]) -> dict[str, int | None]:
    """Return the integers of rows that stand in the order of time and id."""
    values = [row.value for row in rows]
    labels = sum(row.count for row in rows)
    figures: dict[str, int | None] = {"count": len(rows), "sum": sum(values)}
    figures |= {"labels": labels, "frauds": sum(values)}
    if values:
        figures |= {"squares": sum(value * value for value in values)}
        figures |= {"min": min(values), "max": max(values), "first": values[0], "last": values[-1]}
    return figures


def _ewma(head: list[Row], tiled: list[Row], at_ms: int, window_ms: int, tile_ms: int) -> Answer:
    """Return the weighted mean; a row in a tile is as old as the middle of its tile."""
    rows = head + tiled
    if not rows:
        return NONE
    ages = [float(at_ms - row.time_ms) for row in head]
    ages += [at_ms - (row.time_ms // tile_ms + 0.5) * tile_ms for row in tiled]
    weights = [2.0 ** (-HALVINGS * age / window_ms) for age in ages]

    def weighted(sizes: Sequence[int]) -> float:
        products = (size * weight for size, weight in zip(sizes, weights, strict=True))
        return math.fsum(products) / math.fsum(weights)

    size = weighted([abs(row.value) for row in rows])
    return answer.ewma(weighted([row.value for row in rows]), len(rows), size)


def _distinct(head: list[Row], tiled: list[Row], field: int) -> Answer:
    exact = float(len({row.fields[field] for row in head} - {0}))
    if not tiled:
        return Answer(exact)
    registers = [0] * 64
    for hashed in {row.fields[field] for row in head + tiled} - {0}:
        bits = f"{hashed >> 6:026b}"
        rank = bits.index("1") + 1 if "1" in bits else 27
        registers[hashed % 64] = max(registers[hashed % 64], rank)
    estimate = 0.709 * 64 * 64 / sum(2.0**-rank for rank in registers)
    empty = registers.count(0)
    if estimate <= 160 and empty:
        estimate = 64 * math.log(64 / empty)
    return Answer(max(exact, estimate), 8 * answer.UNIT * estimate)


def _way(kinds: Sequence[str], last: tuple[int, ...], own: tuple[int, ...]) -> Answer:
    """Return the way between two places (haversine), or that one of them is unknown."""
    places = []
    for fields in (last, own):
        latitude = fields[kinds.index("latitude")]
        longitude = fields[kinds.index("longitude")]
        if not latitude or not longitude:
            return NONE
        places.append([math.radians((v - 1) / 1e6 - 180) for v in (latitude, longitude)])
    (north, east), (north2, east2) = places
    half = (
        math.sin((north2 - north) / 2) ** 2
        + math.cos(north) * math.cos(north2) * math.sin((east2 - east) / 2) ** 2
    )
    return answer.distance(2 * EARTH_KM * math.asin(math.sqrt(min(1.0, half))))
