"""chunks of a log → items in the order in which the log has them: arrival, not event time.

A late event is late only in this order. A label stands where its own line does, if the log holds
labels as lines; a label that is a column of its event's row is put before the first event with
which the log's clock (the largest event time so far) has passed it.
"""

from collections.abc import Generator

import numpy as np
import polars as pl

from pipeline.replay_order import PIECE_ITEMS, Piece
from pipeline.replay_rows import EVENT, ITEMS, RowMapping
from pipeline.replay_source import LogSource


def as_written(source: LogSource, mapping: RowMapping) -> Generator[Piece, None, None]:
    """Yield all items of a log in the order of its lines."""
    waiting = pl.DataFrame(schema=ITEMS)
    clock_ms, fraction = -1, 0.0
    for chunk in source.chunks():
        mapped, fraction = mapping.items_of(chunk), chunk.fraction
        if mapping.wants_raw:
            yield Piece(mapped.items.sort("line", maintain_order=True), mapped.bad, fraction)
            continue
        events = mapped.items.filter(pl.col("kind") == EVENT).sort("line", maintain_order=True)
        labels = pl.concat([waiting, mapped.items.filter(pl.col("kind") != EVENT)])
        clock = np.maximum.accumulate(np.concatenate([[clock_ms], events["due_ms"].to_numpy()]))
        clock_ms = int(clock[-1])
        before = np.searchsorted(clock[1:], labels["due_ms"].to_numpy(), side="right")
        placed = pl.concat(
            [
                events.with_columns(place=pl.int_range(pl.len(), dtype=pl.Int64)),
                labels.with_columns(place=pl.Series(before, dtype=pl.Int64)),
            ]
        )
        due = (pl.col("kind") == EVENT) | (pl.col("place") < len(events))
        first_labels = pl.col("kind") == EVENT
        ready = placed.filter(due).sort("place", first_labels, "due_ms", "line")
        waiting = placed.filter(~due).drop("place")
        yield Piece(ready.drop("place"), mapped.bad, fraction)
    waiting = waiting.sort("due_ms", "line")
    for first in range(0, len(waiting), PIECE_ITEMS):
        yield Piece(waiting.slice(first, PIECE_ITEMS), [], fraction)
