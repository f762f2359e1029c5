"""Spec → Plan: the same declaration as the arrays that the compiled kernel reads.

A `Scratch` is the room in which the kernel unfolds one state at a time; it belongs to one thread.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.spec import EntitySpec, Spec
from features.spec_levels import COLUMNS, SQUARES_LOW, heads_bytes_max
from features.window_jit import Bytes, Floats, Int, Ints
from features.window_registers import REGISTERS

TIME, ID, WEIGHT, VALUE, FILTERS, FIELD = range(6)  # rows of a head; FIELD + f is field f
N_LEVELS, N_FIELDS, N_FEATURES, SQUARES, FILTER_BITS, LATITUDE, LONGITUDE = range(7)  # Plan.shape
EVENTS, LABELS_SERIES = 0, 1
WINDOW, TILE, COLUMN_BITS, FILTER = range(4)  # Plan.levels
AGGREGATES: Final = (
    "count",
    "sum",
    "mean",
    "std",
    "min",
    "max",
    "first",
    "last",
    "ewma",
    "distinct",
    "since_last",
    "is_new",
    "changed",
    "distance",
    "speed",
    "label_count",
    "fraud_count",
    "fraud_rate",
)
DIGEST_BYTES: Final = 8
TILED: Final = COLUMNS  # column of `Scratch.sums`: whether a tile counted


class Plan(NamedTuple):
    """The spec in arrays. Shapes: E entities, L levels at most, J features at most, T terms.

    Attributes:
        digest: The first 8 bytes of the spec's digest, as a number.
        limits: int64 (3,): newest events kept, newest labels kept, reorder_ms.
        shape: int64 (E, 7): levels, fields, features of an entity; whether it needs squares; the
            filters that it uses; its fields that hold latitude and longitude, or -1.
        levels: int64 (E, 4, L): window_ms, tile_ms, columns, filter.
        features: int64 (E, 3, J): aggregate, level, field.
    """

    digest: Int
    limits: Ints
    shape: Ints
    levels: Ints
    features: Ints


class Rows(NamedTuple):
    """The columns of `EntityUpdates`, and where each row belongs.

    Attributes:
        order: int64 (n,): the rows sorted by slot (`group_rows` writes it).
        first: int64 (slots + 1,): where in `order` each slot's rows begin and end (the same).
    """

    order: Ints
    first: Ints
    entity: Bytes
    event: NDArray[np.int32]
    series: Bytes
    time_ms: Ints
    ids: NDArray[np.uint64]
    weight: Ints
    value: Ints
    fields: NDArray[np.uint32]
    filters: Bytes


class Asked(NamedTuple):
    """Which states are asked what.

    Attributes:
        data: uint8: the states end to end, `PADDING` bytes behind them.
        slots: int64 (slots, 3): entity, question, and bytes of each state.
        at_ms: int64 (m,): the questions' instants.
        own_id: uint64 (m,): ids of the events that ask.
        columns: int64 (E,): where each entity's features begin in a row of the answers.
        places: int64 (m, E): room: the slot of each question's entity.
    """

    data: Bytes
    slots: Ints
    at_ms: Ints
    own_id: NDArray[np.uint64]
    columns: Ints
    places: Ints


class Answers(NamedTuple):
    """What the kernel writes.

    Attributes:
        values: float64 (m, width): NaN is missing.
        late: bool (m,).
        terms: int64 (T, 5): `features.window_terms`; none of them leaves `values` alone.
        own: float64 (m, 1 + indices): the amount and the indices of each event.
        X: float32, shape of `values` (no row: not wanted).
    """

    values: Floats
    late: NDArray[np.bool_]
    terms: Ints
    own: Floats
    X: NDArray[np.float32]


class Scratch(NamedTuple):
    """One state, unfolded.

    Attributes:
        heads: int64 (2, 5 + fields, rows): time, id, count, value, filters, and the place of each
            field's value among `words`, of each series.
        row: int64 (2, 5 + fields): one row to insert and one that leaves, with hashes for fields.
        span: int64 (2, 2): start and end of the rows in use, by series.
        numbers: int64 (L, 2, tiles): tile numbers, by level and series.
        tiles: int64 (L, 14, tiles): the columns of `features.spec_levels`.
        used: int64 (L, 2, 2): start and end of the tiles in use, by level and series.
        registers: uint8 (L, fields, tiles, 64).
        cutoff: int64 (L + 1,): lowest tile alive by level; last, the lowest time alive at all.
        words: int64 (fields, entries): values of a field in the head; entry 0 is 0, absent.
        tally: int64 (fields,): how many of them there are, entry 0 apart.
        tables: int64 (fields, 3, slots): hash tables of stamp, word, entry.
        seen: int64 (entries,): the stamp of the last count that met an entry.
        numbering: int64 (2, entries): an entry's new number, and words in their new order.
        stamp: int64 (1,): the newest stamp in tables and `seen`; an older one means a free place.
        lane: int64 (rows,): one column on its way.
        sums: int64 (L, 15): what each window adds up to.
        distinct: int64 (L, fields): exact numbers of the head.
        union: uint8 (L + 1, fields, 64): registers of the head; last, of the rows so far.
    """

    heads: Ints
    row: Ints
    span: Ints
    numbers: Ints
    tiles: Ints
    used: Ints
    registers: Bytes
    cutoff: Ints
    words: Ints
    tally: Ints
    tables: Ints
    seen: Ints
    numbering: Ints
    stamp: Ints
    lane: Ints
    sums: Ints
    distinct: Ints
    union: Bytes


@lru_cache(maxsize=16)
def plan_of(spec: Spec) -> Plan:
    """Return the arrays of a spec; the same object for the same spec."""
    entities = spec.entities
    levels = np.zeros((len(entities), 4, max(len(e.levels) for e in entities)), dtype=np.int64)
    most = max(len(entity.features) for entity in entities)
    features = np.zeros((len(entities), 3, most), dtype=np.int64)
    for e, entity in enumerate(entities):
        for i, level in enumerate(entity.levels):
            levels[e, :, i] = (level.window_ms, level.tile_ms, level.columns, level.filter)
        for j, feature in enumerate(entity.features):
            aggregate = AGGREGATES.index(feature.aggregate)
            features[e, :, j] = (aggregate, feature.level or 0, feature.field or 0)
    limits = [spec.limits.head_events, spec.limits.label_head_events, spec.limits.reorder_ms]
    return Plan(
        digest=int.from_bytes(bytes.fromhex(spec.digest)[:DIGEST_BYTES], "little", signed=True),
        limits=np.array(limits, dtype=np.int64),
        shape=np.array([_shape_of(entity) for entity in entities], dtype=np.int64),
        levels=levels,
        features=features,
    )


def _shape_of(entity: EntitySpec) -> list[int]:
    kinds = [field.kind for field in entity.fields]
    squares = any(level.columns >> SQUARES_LOW & 1 for level in entity.levels)
    places = [kinds.index(k) if k in kinds else -1 for k in ("latitude", "longitude")]
    sizes = [len(entity.levels), len(entity.fields), len(entity.features)]
    return [*sizes, int(squares), entity.filter_bits, *places]


def scratch_of(spec: Spec) -> Scratch:
    """Return room for any state of this spec."""
    levels = max(len(entity.levels) for entity in spec.entities)
    fields = max(1, spec.max_fields)
    kept = max(spec.limits.head_events, spec.limits.label_head_events)
    rows = 2 * kept + 8
    alive = max(
        level.tiles_max(spec.reorder_ms) for entity in spec.entities for level in entity.levels
    )
    tiles = 2 * alive + 4
    return Scratch(
        heads=np.zeros((2, FIELD + fields, rows), dtype=np.int64),
        row=np.zeros((2, FIELD + fields), dtype=np.int64),
        span=np.zeros((2, 2), dtype=np.int64),
        numbers=np.zeros((levels, 2, tiles), dtype=np.int64),
        tiles=np.zeros((levels, COLUMNS, tiles), dtype=np.int64),
        used=np.zeros((levels, 2, 2), dtype=np.int64),
        registers=np.zeros((levels, fields, tiles, REGISTERS), dtype=np.uint8),
        cutoff=np.zeros(levels + 1, dtype=np.int64),
        words=np.zeros((fields, rows + 1), dtype=np.int64),
        tally=np.zeros(fields, dtype=np.int64),
        tables=np.zeros((fields, 3, 1 << (2 * rows).bit_length()), dtype=np.int64),
        seen=np.zeros(rows + 1, dtype=np.int64),
        numbering=np.zeros((2, rows + 1), dtype=np.int64),
        stamp=np.zeros(1, dtype=np.int64),
        lane=np.zeros(max(rows, tiles), dtype=np.int64),
        sums=np.zeros((levels, COLUMNS + 1), dtype=np.int64),
        distinct=np.zeros((levels, fields), dtype=np.int64),
        union=np.zeros((levels + 1, fields, REGISTERS), dtype=np.uint8),
    )


@lru_cache(maxsize=64)
def state_bytes_max(spec: Spec, entity: EntitySpec) -> int:
    """Return the most bytes that a state of this entity can take."""
    heads = heads_bytes_max(
        spec.limits.head_events,
        spec.limits.label_head_events,
        len(entity.fields),
        entity.longest_window_ms,
        spec.reorder_ms,
        bool(entity.filter_bits),
    )
    return heads + sum(level.bytes_max(spec.reorder_ms) for level in entity.levels)
