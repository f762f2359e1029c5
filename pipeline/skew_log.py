"""files of log records and of decisions → values: what `riskbeat skew` compares, read offline.

A log file holds one record a row: `topic` (`events` or `label_updates`), `partition`, `offset`,
`timestamp_ms` (when the log took it) and `value`. JSON Lines or Parquet.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec
import polars as pl

from features.event import EventRejected
from features.event_wire import UNREADABLE
from models.decision import DecisionRecord
from models.decision_codec import decode_record
from pipeline.replay_source import LogUnreadable

Kind = Literal["events", "label_updates"]
COLUMNS: Final = pl.Schema(
    {
        "topic": pl.String(),
        "partition": pl.Int64(),
        "offset": pl.Int64(),
        "timestamp_ms": pl.Int64(),
        "value": pl.Binary(),
    }
)


class Placed(NamedTuple):
    """One record of a log, and where it stands.

    Attributes:
        topic: What the record is.
        timestamp_ms: When the log took it.
    """

    topic: Kind
    partition: int
    offset: int
    timestamp_ms: int
    value: bytes


class _Line(msgspec.Struct):
    topic: Kind
    partition: int
    offset: int
    timestamp_ms: int
    value: msgspec.Raw


_lines: Final = msgspec.json.Decoder(_Line)


def read_log(path: Path) -> list[Placed]:
    """Read a log file.

    Raises:
        LogUnreadable: No such file, or a row is not what it should be; names the line.
    """
    if path.suffix == ".parquet":
        frame = _parquet(path, COLUMNS)
        return [Placed(*row) for row in frame.iter_rows()]
    found = []
    for number, line in _text_lines(path):
        try:
            record = _lines.decode(line)
        except UNREADABLE as error:
            raise LogUnreadable(f"{path}:{number}: {error}") from error
        placed = (record.topic, record.partition, record.offset, record.timestamp_ms)
        found.append(Placed(*placed, bytes(record.value)))
    return found


def write_log(path: Path, records: Iterable[Placed]) -> None:
    """Write a log file (.parquet) that `read_log` reads.

    Raises:
        OSError: It cannot be written.
    """
    pl.DataFrame(list(records), schema=COLUMNS, orient="row").write_parquet(path)


def read_decisions(path: Path) -> list[DecisionRecord]:
    """Read decision records: one a line, or a Parquet file whose column `value` holds them.

    Raises:
        LogUnreadable: No such file, or a row is no decision record; names the line.
    """
    if path.suffix == ".parquet":
        frame = _parquet(path, pl.Schema({"value": pl.Binary()}))
        bodies: Iterable[tuple[int, bytes]] = enumerate(frame["value"], 1)
    else:
        bodies = _text_lines(path)
    found = []
    for number, body in bodies:
        try:
            found.append(decode_record(body))
        except EventRejected as error:
            raise LogUnreadable(f"{path}:{number}: no decision record: {error.detail}") from error
    return found


def write_decisions(path: Path, bodies: Iterable[bytes]) -> None:
    """Write a file of decision records (.parquet) that `read_decisions` reads.

    Raises:
        OSError: It cannot be written.
    """
    pl.DataFrame({"value": list(bodies)}, schema={"value": pl.Binary()}).write_parquet(path)


def _parquet(path: Path, schema: pl.Schema) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(path)
        return frame.select(pl.col(name).cast(dtype) for name, dtype in schema.items()).drop_nulls()
    except (pl.exceptions.PolarsError, OSError) as error:
        columns = ", ".join(schema)
        told: Any = str(error).splitlines()[0]
        raise LogUnreadable(
            f"{path}: expected Parquet with the columns {columns}: {told}"
        ) from error


def _text_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.strip()
    except OSError as error:
        raise LogUnreadable(f"{path}: {error.strerror or error}") from error
