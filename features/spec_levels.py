"""windows and aggregates of an entity → levels: which tiles its state keeps, how wide, how large.

A level is one window of one entity: its length, its tile width, and the columns that its tiles
need. Sizes here are worst cases that no state can exceed, so the limit is kept by arithmetic,
not by looking at states.
"""

from dataclasses import dataclass, replace
from typing import Final

TILES_PER_WINDOW: Final = 64
HEADER_BYTES: Final = 10
SERIES_BYTES: Final = 16  # row count, column widths and the first time of one head
BASE_VALUE_MAX: Final = 2**44  # largest amount, either sign, in base minor units
VALUE_MAX_BYTES: Final = 6  # of its zigzag
HLL_TILE_MAX_BYTES: Final = 41

# Tile columns; the index of a column is its bit in `Level.columns`.
COUNT, SUM, SQUARES_HIGH, SQUARES_LOW, MIN, MAX, LABELS, FRAUDS = range(8)
COLUMNS: Final = 8
DISTINCT_SHIFT: Final = COLUMNS  # bit 8 + f: registers of the entity's field f
_COLUMN_BYTES: Final = {
    COUNT: 4,
    SUM: 8,
    SQUARES_HIGH: 8,
    SQUARES_LOW: 6,
    MIN: VALUE_MAX_BYTES,
    MAX: VALUE_MAX_BYTES,
    LABELS: 4,
    FRAUDS: 4,
}
EVENT_COLUMNS: Final = (COUNT, SUM, SQUARES_HIGH, SQUARES_LOW, MIN, MAX)
LABEL_COLUMNS: Final = (LABELS, FRAUDS)

COLUMNS_OF: Final = {
    "count": (COUNT,),
    "sum": (COUNT, SUM),
    "mean": (COUNT, SUM),
    "std": (COUNT, SUM, SQUARES_HIGH, SQUARES_LOW),
    "min": (COUNT, MIN),
    "max": (COUNT, MAX),
    "distinct": (COUNT,),
    "label_count": (LABELS,),
    "fraud_count": (LABELS, FRAUDS),
    "fraud_rate": (LABELS, FRAUDS),
}


@dataclass(frozen=True, slots=True)
class Level:
    """One window of an entity.

    Attributes:
        tile_ms: Width of its tiles; tile i covers [i·tile_ms, (i+1)·tile_ms).
        columns: Bit set of the tile columns that its aggregates need.
        filter: Index of the filter whose events alone count; -1 for all events.
    """

    window_ms: int
    tile_ms: int
    columns: int
    filter: int = -1

    def tiles_max(self, reorder_ms: int) -> int:
        """Return how many tiles can be alive at once."""
        return (self.window_ms + reorder_ms) // self.tile_ms + 2

    def bytes_max(self, reorder_ms: int) -> int:
        """Return the most bytes that its tiles can take in a state."""
        tiles = self.tiles_max(reorder_ms)
        total = 0
        for columns in (EVENT_COLUMNS, LABEL_COLUMNS):
            used = [c for c in columns if self.columns >> c & 1]
            total += 2 + (9 + tiles * (1 + (tiles > 255)) if used else 0)
            total += sum(1 + tiles * _COLUMN_BYTES[c] for c in used)
        fields = (self.columns >> DISTINCT_SHIFT).bit_count()
        return total + fields * tiles * HLL_TILE_MAX_BYTES


def tile_ms_of(window_ms: int) -> int:
    """Return the finest tile width of a window: a 64th part of it."""
    return max(1, window_ms // TILES_PER_WINDOW)


def heads_bytes_max(
    head_events: int, label_head_events: int, fields: int, longest_ms: int, reorder_ms: int
) -> int:
    """Return the most bytes that the two heads can take in a state, however wide its tiles."""
    kept_ms = longest_ms + longest_ms // 2 + reorder_ms
    time_bytes = (kept_ms.bit_length() + 7) // 8
    event = time_bytes + 8 + VALUE_MAX_BYTES + 4 * fields
    label = time_bytes + 8 + 2
    fixed = HEADER_BYTES + 2 * SERIES_BYTES + 4 * fields
    return fixed + head_events * event + label_head_events * label


def coarsen(levels: tuple[Level, ...], budget_bytes: int, reorder_ms: int) -> tuple[Level, ...]:
    """Double tile widths, the most expensive level first, until all tiles fit the budget.

    A level is never left with fewer than four tiles.

    Raises:
        ValueError: They do not fit even so.
    """
    fitted = list(levels)
    while sum(level.bytes_max(reorder_ms) for level in fitted) > budget_bytes:
        able = [i for i, level in enumerate(fitted) if level.tile_ms * 4 < level.window_ms]
        if not able:
            raise ValueError(f"the tiles do not fit {budget_bytes} bytes")
        worst = max(able, key=lambda i: (fitted[i].bytes_max(reorder_ms), i))
        fitted[worst] = replace(fitted[worst], tile_ms=fitted[worst].tile_ms * 2)
    return tuple(fitted)
