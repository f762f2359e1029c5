"""windows and aggregates of an entity → levels: which tiles its state keeps, how wide, how large.

A level is one window of one entity (of all its events, or of those that meet a filter): its
length, its tile width, and the columns that its tiles need. Sizes here are worst cases that no
state can exceed, bit by bit, so the limit is kept by arithmetic, not by looking at states.
"""

from dataclasses import dataclass, replace
from typing import Final

TILES_PER_WINDOW: Final = 64
HEADER_BYTES: Final = 10
COUNT_BYTES: Final = 2  # of rows in a head, of tiles in a level, of entries in a dictionary
TIME_BYTES: Final = 6  # of a first time or tile number; enough for the year 9999
BASE_VALUE_MAX: Final = 2**44  # largest amount, either sign, in base minor units
VALUE_BITS: Final = 46  # of its zigzag
ID_BITS: Final = 28  # of the identity hash of a row; ADR 0007 says why so few
ID_MASK: Final = 2**ID_BITS - 1
FILTERS_MAX: Final = 8
HASH_BITS: Final = 32
LABEL_BITS: Final = 2  # of a sign's zigzag
HLL_TILE_MAX_BYTES: Final = 41

# Tile columns; the index of a column is its bit in `Level.columns`.
COUNT, SUM, SQUARES_HIGH, SQUARES_LOW, MIN, MAX = range(6)
FIRST_TIME, FIRST_ID, FIRST, LAST_TIME, LAST_ID, LAST = range(6, 12)
LABELS, FRAUDS = range(12, 14)
COLUMNS: Final = 14
DISTINCT_SHIFT: Final = COLUMNS  # bit 14 + f: registers of the entity's field f
EVENT_COLUMNS: Final = tuple(range(LABELS))
LABEL_COLUMNS: Final = (LABELS, FRAUDS)
_COLUMN_BITS: Final = {
    COUNT: 32,
    SUM: 64,
    SQUARES_HIGH: 64,
    SQUARES_LOW: 48,
    MIN: VALUE_BITS,
    MAX: VALUE_BITS,
    FIRST_ID: ID_BITS,
    FIRST: VALUE_BITS,
    LAST_ID: ID_BITS,
    LAST: VALUE_BITS,
    LABELS: 32,
    FRAUDS: 32,
}

COLUMNS_OF: Final = {
    "count": (COUNT,),
    "sum": (COUNT, SUM),
    "mean": (COUNT, SUM),
    "std": (COUNT, SUM, SQUARES_HIGH, SQUARES_LOW),
    "min": (COUNT, MIN),
    "max": (COUNT, MAX),
    "first": (COUNT, FIRST_TIME, FIRST_ID, FIRST),
    "last": (COUNT, LAST_TIME, LAST_ID, LAST),
    "ewma": (COUNT, SUM),
    "distinct": (COUNT,),
    "label_count": (LABELS,),
    "fraud_count": (LABELS, FRAUDS),
    "fraud_rate": (LABELS, FRAUDS),
}


def columns_of(aggregate: str, filtered: bool) -> tuple[int, ...]:
    """Return the tile columns that a windowed aggregate needs.

    The newest of all events always stands in the head; the newest that meets a filter need not.
    """
    if aggregate == "last" and not filtered:
        return ()
    return COLUMNS_OF[aggregate]


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
        fields = (self.columns >> DISTINCT_SHIFT).bit_count()
        total = fields * tiles * HLL_TILE_MAX_BYTES
        for columns in (EVENT_COLUMNS, LABEL_COLUMNS):
            used = [c for c in columns if self.columns >> c & 1]
            if used:
                total += COUNT_BYTES + TIME_BYTES + _packed(tiles, (tiles - 1).bit_length())
            total += sum(_packed(tiles, self._bits_of(c)) for c in used)
        return total

    def _bits_of(self, column: int) -> int:
        if column in (FIRST_TIME, LAST_TIME):
            return (self.tile_ms - 1).bit_length()
        return _COLUMN_BITS[column]


def tile_ms_of(window_ms: int) -> int:
    """Return the finest tile width of a window: a 64th part of it."""
    return max(1, window_ms // TILES_PER_WINDOW)


def heads_bytes_max(
    head_events: int,
    label_head_events: int,
    fields: int,
    longest_ms: int,
    reorder_ms: int,
    filtered: bool = False,
) -> int:
    """Return the most bytes that the header and the two heads can take in a state.

    Args:
        head_events: Newest events that are kept.
        label_head_events: Newest labels that are kept.
        fields: How many fields each event has.
        longest_ms: The entity's longest window, whose tiles are at most half as wide.
        reorder_ms: How much longer than its window an event is kept.
        filtered: Whether the entity uses filters, so that each event has a mask.
    """
    time_bits = (longest_ms + longest_ms // 2 + reorder_ms).bit_length()
    events = _head_bytes(head_events, time_bits, [VALUE_BITS] + [FILTERS_MAX] * filtered)
    labels = _head_bytes(label_head_events, time_bits, [LABEL_BITS, LABEL_BITS])
    # A value that is new takes a bit to say so and a place in the dictionary; others take less.
    dictionary = COUNT_BYTES + (head_events + 7) // 8 + head_events * HASH_BITS // 8 + 1
    return HEADER_BYTES + events + labels + fields * dictionary


def _head_bytes(rows: int, time_bits: int, columns: list[int]) -> int:
    """Return the most bytes of a head: its count, times, ids, and columns of so many bits."""
    fixed = COUNT_BYTES + TIME_BYTES + (rows * ID_BITS + 7) // 8
    return fixed + _packed(rows, time_bits) + sum(_packed(rows, bits) for bits in columns)


def _packed(values: int, bits: int) -> int:
    """Return the bytes of a column of values, each of so many bits, and of its width."""
    return 1 + (values * bits + 7) // 8


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
