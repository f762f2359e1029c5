"""what passes between a log and its replay: chunks of rows in, items out, bad rows aside."""

from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

EVENT: Final = 0
LABEL: Final = 1
NO_TIME: Final = -(2**62)
ITEMS: Final = pl.Schema(
    {
        "due_ms": pl.Int64,  # when it happened, or became known
        "kind": pl.Int8,  # EVENT or LABEL
        "line": pl.Int64,  # of the log
        "key": pl.Binary,
        "body": pl.Binary,
    }
)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row (or a label of it) that is not sent.

    Attributes:
        line: Of the file, from 1; in Parquet the row, from 1.
        field: The column at fault; empty for the whole row.
    """

    line: int
    field: str
    reason: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows of a log.

    Attributes:
        frame: Columns as the file has them.
        lines: Line of each row.
        bad: Rows that could not be read at all.
        fraction: How much of the file has been read, 0..1.
    """

    frame: pl.DataFrame
    lines: NDArray[np.int64]
    bad: list[BadRow] = field(default_factory=list)
    fraction: float = 0.0


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a chunk means.

    Attributes:
        items: Schema `ITEMS`, events and labels, not in order.
        bad: Rows (or labels) that mean nothing, with those of the chunk.
    """

    items: pl.DataFrame
    bad: list[BadRow]


class RowMapping(Protocol):
    """What rows mean. Implementations: `mapping_rows.ColumnMapping`, `mapping_events.EventMapping`.

    Attributes:
        wants_raw: Rows come undecoded: one binary column `raw`.
    """

    wants_raw: bool

    def check_columns(self, present: list[str]) -> None:
        """Refuse a log without the columns that are needed (SpecError)."""

    def times_ms(self, chunk: Chunk) -> NDArray[np.int64]:
        """Return each row's event time, `NO_TIME` where it has none."""

    def items_of(self, chunk: Chunk) -> Mapped:
        """Return the events and labels of the rows."""
