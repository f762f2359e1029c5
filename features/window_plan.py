"""Spec → Plan: the same declaration as the arrays that the compiled kernel reads.

A `Scratch` is the room in which the kernel unfolds one state at a time; it belongs to one call.
"""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.spec import EntitySpec, Spec
from features.spec_levels import COLUMNS, heads_bytes_max
from features.window_codec import REGISTERS
from features.window_jit import Bytes, Ints

TIME, ID, WEIGHT, VALUE, FIELD = range(5)  # rows of a head; FIELD + f is field f
AGGREGATES: Final = (
    "count",
    "sum",
    "mean",
    "std",
    "min",
    "max",
    "distinct",
    "since_last",
    "label_count",
    "fraud_count",
    "fraud_rate",
)
DIGEST_BYTES: Final = 8


class Plan(NamedTuple):
    """The spec in arrays. Shapes: E entities, L levels at most, J features at most.

    Attributes:
        digest: uint8 (8,): the first bytes of the spec's digest.
        limits: int64 (3,): newest events kept, newest labels kept, reorder_ms.
        shape: int64 (E, 3): levels, fields, features of an entity.
        levels: int64 (E, 3, L): window_ms, tile_ms, columns.
        features: int64 (E, 3, J): aggregate, level, field.
    """

    digest: Bytes
    limits: Ints
    shape: Ints
    levels: Ints
    features: Ints


class Rows(NamedTuple):
    """The columns of `EntityUpdates`, in the kernel's types (ids as the same 64 bits, signed).

    Attributes:
        order: int64 (n,): the rows sorted by slot.
        first: int64 (slots + 1,): where in `order` each slot's rows begin and end.
    """

    order: Ints
    first: Ints
    series: Bytes
    time_ms: Ints
    ids: Ints
    weight: Ints
    value: Ints
    fields: NDArray[np.uint32]
    filters: Bytes


class Scratch(NamedTuple):
    """One state, unfolded.

    Attributes:
        heads: int64 (2, 4 + fields, rows): time, id, count, value, fields of each series.
        row: int64 (4 + fields,): one row to insert, laid out as a head is.
        span: int64 (2, 2): start and end of the rows in use, by series.
        numbers: int64 (L, 2, tiles): tile numbers, by level and series.
        tiles: int64 (L, 8, tiles): the columns of `features.spec_levels`.
        used: int64 (L, 2, 2): start and end of the tiles in use, by level and series.
        registers: uint8 (L, fields, tiles, 64).
        cutoff: int64 (L + 1,): lowest tile alive by level; last, the lowest time alive at all.
        tables: int64 (fields, 3, slots): hash tables of stamp, value, number.
        stamp: int64 (1,): the newest stamp in them; an older one means a free slot.
        lookup: int64 (2, rows): a dictionary, and places in it.
        running: int64 (8,): what the rows so far add up to.
        sums: int64 (L, 8): what each window adds up to.
        distinct: int64 (L + 1, fields): exact numbers of the head; last, of the rows so far.
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
    tables: Ints
    stamp: Ints
    lookup: Ints
    running: Ints
    sums: Ints
    distinct: Ints
    union: Bytes


@lru_cache(maxsize=16)
def plan_of(spec: Spec) -> Plan:
    """Return the arrays of a spec; the same object for the same spec."""
    entities = spec.entities
    levels = np.zeros((len(entities), 3, max(len(e.levels) for e in entities)), dtype=np.int64)
    most = max(len(entity.features) for entity in entities)
    features = np.zeros((len(entities), 3, most), dtype=np.int64)
    for e, entity in enumerate(entities):
        for i, level in enumerate(entity.levels):
            levels[e, :, i] = (level.window_ms, level.tile_ms, level.columns)
        for j, feature in enumerate(entity.features):
            aggregate = AGGREGATES.index(feature.aggregate)
            features[e, :, j] = (aggregate, feature.level or 0, feature.field or 0)
    shape = [[len(e.levels), len(e.fields), len(e.features)] for e in entities]
    limits = [spec.limits.head_events, spec.limits.label_head_events, spec.limits.reorder_ms]
    digest = bytes.fromhex(spec.digest)[:DIGEST_BYTES]
    return Plan(
        digest=np.frombuffer(digest, dtype=np.uint8),
        limits=np.array(limits, dtype=np.int64),
        shape=np.array(shape, dtype=np.int64),
        levels=levels,
        features=features,
    )


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
    slots = 1 << (2 * kept).bit_length()
    return Scratch(
        heads=np.zeros((2, FIELD + fields, rows), dtype=np.int64),
        row=np.zeros(FIELD + fields, dtype=np.int64),
        span=np.zeros((2, 2), dtype=np.int64),
        numbers=np.zeros((levels, 2, tiles), dtype=np.int64),
        tiles=np.zeros((levels, COLUMNS, tiles), dtype=np.int64),
        used=np.zeros((levels, 2, 2), dtype=np.int64),
        registers=np.zeros((levels, fields, tiles, REGISTERS), dtype=np.uint8),
        cutoff=np.zeros(levels + 1, dtype=np.int64),
        tables=np.zeros((fields, 3, slots), dtype=np.int64),
        stamp=np.zeros(1, dtype=np.int64),
        lookup=np.zeros((2, rows), dtype=np.int64),
        running=np.zeros(COLUMNS, dtype=np.int64),
        sums=np.zeros((levels, COLUMNS), dtype=np.int64),
        distinct=np.zeros((levels + 1, fields), dtype=np.int64),
        union=np.zeros((levels + 1, fields, REGISTERS), dtype=np.uint8),
    )


def state_bytes_max(spec: Spec, entity: EntitySpec) -> int:
    """Return the most bytes that a state of this entity can take."""
    heads = heads_bytes_max(
        spec.limits.head_events,
        spec.limits.label_head_events,
        len(entity.fields),
        entity.longest_window_ms,
        spec.reorder_ms,
    )
    return heads + sum(level.bytes_max(spec.reorder_ms) for level in entity.levels)
