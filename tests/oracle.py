"""Every aggregate from the plain list of rows: slow, and obviously right.

Nothing here is shared with the kernel but the spec's declarations. Python's integers are exact, so
sums, squares and variances here are the truth, and the kernel's floats are compared with them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from features.spec import Spec
from features.spec_levels import DISTINCT_SHIFT, FRAUDS, LABELS
from features.spec_values import EntitySpec, FeatureSpec
from features.update import EntityUpdates

EVENT, LABEL = 0, 1


@dataclass(frozen=True)
class Row:
    """One fact about one entity, as in `EntityUpdates`."""

    series: int
    time_ms: int
    id: int
    count: int = 1
    value: int = 0
    distinct: tuple[int, ...] = ()

    @property
    def order(self) -> tuple[int, int]:
        """Heads are ordered by time, then by the id read as signed."""
        return self.time_ms, self.id - (1 << 64 if self.id >> 63 else 0)


def updates_of(spec: Spec, entity: EntitySpec, rows: Sequence[Row]) -> EntityUpdates:
    """Return rows of one entity as columns."""
    n = len(rows)
    fields = np.zeros((n, spec.max_fields), dtype=np.uint32)
    for i, row in enumerate(rows):
        fields[i, : len(row.distinct)] = row.distinct
    return EntityUpdates(
        keys=[b"one"] * n,
        entity=np.full(n, entity.index, dtype=np.uint8),
        series=np.array([row.series for row in rows], dtype=np.uint8),
        time_ms=np.array([row.time_ms for row in rows], dtype=np.int64),
        id=np.array([row.id for row in rows], dtype=np.uint64),
        count=np.array([row.count for row in rows], dtype=np.int64),
        value=np.array([row.value for row in rows], dtype=np.int64),
        fields=fields,
        filters=np.zeros(n, dtype=np.uint8),
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
        for series, kept in (
            (EVENT, spec.limits.head_events),
            (LABEL, spec.limits.label_head_events),
        ):
            of_series = {row for row in rows if row.series == series and row.time_ms >= lowest}
            alive = sorted(of_series, key=lambda row: row.order)
            self.heads.append(alive[-kept:])
            self.behind.append(alive[:-kept])

    def late(self, at_ms: int) -> bool:
        """Whether rows that the question needs may be forgotten, or stand in later tiles."""
        if at_ms < self.newest - self.spec.reorder_ms:
            return True
        return any(
            any(at_ms < row.time_ms for row in self.heads[series][:1])
            and any(
                row.time_ms // level.tile_ms >= cut
                for row in self.behind[series]
                for level, cut in zip(self.entity.levels, self.cutoff, strict=True)
                if self._has_tiles(level.columns, series)
            )
            for series in (EVENT, LABEL)
        )

    @staticmethod
    def _has_tiles(columns: int, series: int) -> bool:
        of_labels = columns & (1 << LABELS | 1 << FRAUDS)
        return bool(of_labels if series == LABEL else columns & ~of_labels)

    def features(self, at_ms: int, own_id: int) -> list[float]:
        """Return the entity's features in vector order."""
        return [self._feature(feature, at_ms, own_id) for feature in self.entity.features]

    def _feature(self, feature: FeatureSpec, at_ms: int, own_id: int) -> float:
        if feature.level is None:
            before = [
                row.time_ms
                for row in self.heads[EVENT]
                if row.time_ms < at_ms or (row.time_ms == at_ms and row.id != own_id)
            ]
            return (at_ms - max(before)) / 1000 if before else math.nan
        series = LABEL if feature.aggregate in ("label_count", "fraud_count", "fraud_rate") else 0
        head, tiled = self._window(series, feature.level, at_ms)
        if feature.field is not None:
            assert self.entity.levels[feature.level].columns >> DISTINCT_SHIFT + feature.field & 1
            return _distinct(head, tiled, feature.field)
        return _aggregate(feature.aggregate, head + tiled)

    def _window(self, series: int, index: int, at_ms: int) -> tuple[list[Row], list[Row]]:
        """Return the rows that count: the head's by the millisecond, the others by their tile."""
        level = self.entity.levels[index]
        head = [row for row in self.heads[series] if at_ms - level.window_ms < row.time_ms <= at_ms]
        low = (at_ms - level.window_ms + 1) // level.tile_ms
        tiled = [
            row
            for row in self.behind[series]
            if max(low, self.cutoff[index]) <= row.time_ms // level.tile_ms
            and row.time_ms // level.tile_ms <= at_ms // level.tile_ms
        ]
        return head, tiled


def _aggregate(name: str, rows: list[Row]) -> float:
    labels = sum(row.count for row in rows)
    total = sum(row.value for row in rows)
    if name == "fraud_rate":
        return total / labels if labels > 0 else math.nan
    if name in ("mean", "std", "min", "max"):
        return _of_values(name, [row.value for row in rows]) if rows else math.nan
    return float(labels if name in ("count", "label_count") else total)


def _of_values(name: str, values: list[int]) -> float:
    mean = Fraction(sum(values), len(values))
    if name == "mean":
        return float(mean)
    if name == "std":
        return math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return float(min(values) if name == "min" else max(values))


def _distinct(head: list[Row], tiled: list[Row], field: int) -> float:
    exact = float(len({row.distinct[field] for row in head} - {0}))
    if not tiled:
        return exact
    registers = [0] * 64
    for hashed in {row.distinct[field] for row in head + tiled} - {0}:
        bits = f"{hashed >> 6:026b}"
        rank = bits.index("1") + 1 if "1" in bits else 27
        registers[hashed % 64] = max(registers[hashed % 64], rank)
    estimate = 0.709 * 64 * 64 / sum(2.0**-rank for rank in registers)
    empty = registers.count(0)
    if estimate <= 160 and empty:
        estimate = 64 * math.log(64 / empty)
    return max(exact, estimate)
