"""a file → chunks of rows with their line numbers: CSV(.gz), JSON Lines(.gz) or Parquet.

Text formats are read line by line, so that a broken line is one bad row and the rest is read.
"""

import csv
import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, Protocol

import msgspec
import numpy as np
import polars as pl

from features.event_wire import UNREADABLE
from pipeline.replay_rows import BadRow, Chunk

CHUNK_ROWS: Final = 8_192
LINE_MAX_BYTES: Final = 1 << 20
_decode = msgspec.json.Decoder(float_hook=str).decode


class LogUnreadable(ValueError):
    """The file is not there, or not what its name says."""


class LogSource(Protocol):
    """A log that can be read from its start, any number of times."""

    path: Path

    def columns(self) -> list[str] | None:
        """Return the names of the columns; None where each row has its own."""

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows, `CHUNK_ROWS` at a time, in the order of the file."""


def open_log(path: Path, *, raw: bool = False) -> LogSource:
    """Choose the reader by the file's name.

    Args:
        path: Ends in .parquet, .csv, .csv.gz, .jsonl, .jsonl.gz, .ndjson.
        raw: JSON Lines are handed out undecoded, as one binary column `raw`.

    Raises:
        LogUnreadable: No such file, or an ending that we do not know.
    """
    if not path.is_file():
        raise LogUnreadable(f"{path}: no such file")
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".jsonl", ".ndjson")):
        return JsonLines(path, raw=raw)
    if raw:
        raise LogUnreadable(f"{path}: events as they are come as JSON Lines (.jsonl)")
    if name.endswith(".csv"):
        return Csv(path)
    if name.endswith(".parquet"):
        return Parquet(path)
    raise LogUnreadable(f"{path}: expected .parquet, .csv, .csv.gz, .jsonl or .jsonl.gz")


class _Text:
    """A text file, perhaps compressed, which knows how much of it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._size = max(path.stat().st_size, 1)

    def _open(self) -> tuple[IO[bytes], IO[bytes]]:
        """Return the file below, whose position tells the fraction, and the one to read."""
        below = self.path.open("rb")
        if self.path.name.lower().endswith(".gz"):
            return below, io.BufferedReader(gzip.GzipFile(fileobj=below))
        return below, below

    def _fraction(self, below: IO[bytes]) -> float:
        return min(below.tell() / self._size, 1.0)


class Csv(_Text):
    """Comma-separated values with a header line; every value is text."""

    def columns(self) -> list[str] | None:
        """Return the header."""
        below, data = self._open()
        with below, io.TextIOWrapper(data, "utf-8-sig", "replace", newline="") as text:
            try:
                header = next(csv.reader(text), None)
            except (OSError, EOFError, csv.Error) as error:
                raise LogUnreadable(f"{self.path}: {error}") from error
        if not header:
            raise LogUnreadable(f"{self.path}:1: expected a header line; the file is empty")
        if len(set(header)) != len(header):
            raise LogUnreadable(f"{self.path}:1: a column's name stands there twice")
        return header

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows; those with too many or too few values are bad."""
        header = self.columns()
        assert header is not None
        below, data = self._open()
        with below, io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline="") as text:
            reader = csv.reader(text)
            next(reader)
            done = False
            while not done:
                rows, lines, bad, done = self._read(reader, len(header))
                yield Chunk(
                    _text_frame(header, rows, lines, bad),
                    np.array(lines, dtype=np.int64),
                    bad,
                    1.0 if done else self._fraction(below),
                )

    def _read(
        self, reader: Any, width: int
    ) -> tuple[list[list[str]], list[int], list[BadRow], bool]:
        """Read up to a chunk; say whether the file ended."""
        rows: list[list[str]] = []
        lines: list[int] = []
        bad: list[BadRow] = []
        while len(rows) < CHUNK_ROWS:
            line = reader.line_num + 1
            try:
                row = next(reader)
            except StopIteration:
                return rows, lines, bad, True
            except csv.Error as error:
                bad.append(BadRow(reader.line_num, "", str(error)))
                continue
            except (OSError, EOFError) as error:  # a broken or cut .gz
                bad.append(BadRow(line, "", f"the file cannot be read on: {error}"))
                return rows, lines, bad, True
            if len(row) == width:
                rows.append(row)
                lines.append(line)
            elif row:
                bad.append(BadRow(line, "", f"has {len(row)} values; the header has {width}"))
        return rows, lines, bad, False


def _text_frame(
    header: list[str], rows: list[list[str]], lines: list[int], bad: list[BadRow]
) -> pl.DataFrame:
    """Make a frame of text; rows that are no UTF-8 are taken out and reported."""
    schema = dict.fromkeys(header, pl.String)
    try:
        return pl.DataFrame(rows, schema=schema, orient="row")
    except UnicodeEncodeError:
        kept = []
        for number in range(len(rows) - 1, -1, -1):
            fault = next((n for n, v in zip(header, rows[number], strict=True) if _broken(v)), None)
            if fault is None:
                kept.append(rows[number])
            else:
                bad.append(BadRow(lines.pop(number), fault, "is no UTF-8"))
        kept.reverse()
        return pl.DataFrame(kept, schema=schema, orient="row")


def _broken(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


class JsonLines(_Text):
    """One JSON object a line; nested fields are named with dots, as in `amount.value`."""

    def __init__(self, path: Path, *, raw: bool) -> None:
        """Choose whether lines are decoded."""
        super().__init__(path)
        self._raw = raw

    def columns(self) -> list[str] | None:
        """Return None: each line has its own."""
        return None

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows; lines that are no JSON object are bad, empty lines are nothing."""
        below, data = self._open()
        line = 0
        with below, data:
            done = False
            while not done:
                bodies: list[bytes] = []
                lines: list[int] = []
                bad: list[BadRow] = []
                while len(bodies) < CHUNK_ROWS and not done:
                    try:
                        body = data.readline(LINE_MAX_BYTES + 1)
                    except (OSError, EOFError) as error:
                        bad.append(BadRow(line + 1, "", f"the file cannot be read on: {error}"))
                        body = b""
                    done = not body
                    line += 1
                    if len(body) > LINE_MAX_BYTES:
                        bad.append(BadRow(line, "", f"longer than {LINE_MAX_BYTES} bytes"))
                        while body and not body.endswith(b"\n"):
                            body = data.readline(LINE_MAX_BYTES)
                    elif body.strip():
                        bodies.append(body.strip())
                        lines.append(line)
                frame, lines = self._frame(bodies, lines, bad)
                fraction = 1.0 if done else self._fraction(below)
                yield Chunk(frame, np.array(lines, dtype=np.int64), bad, fraction)

    def _frame(
        self, bodies: list[bytes], lines: list[int], bad: list[BadRow]
    ) -> tuple[pl.DataFrame, list[int]]:
        if self._raw:
            return pl.DataFrame({"raw": bodies}, schema={"raw": pl.Binary}), lines
        kept: list[int] = []
        names: dict[str, list[str | None]] = {}
        for line, body in zip(lines, bodies, strict=True):
            try:
                row = _decode(body)
            except UNREADABLE as error:
                bad.append(BadRow(line, "", f"is no JSON: {error}"))
                continue
            if not isinstance(row, dict):
                bad.append(BadRow(line, "", "is no JSON object"))
                continue
            for name, value in _flat(row, ""):
                if name not in names:
                    names[name] = [None] * len(kept)
                names[name].append(value)
            kept.append(line)
            for column in names.values():
                if len(column) < len(kept):
                    column.append(None)
        return pl.DataFrame(names, schema=dict.fromkeys(names, pl.String)), kept


def _flat(row: dict[str, Any], prefix: str) -> Iterator[tuple[str, str | None]]:
    """Yield every leaf with its dotted name, as the text that it was."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, str):
            yield prefix + name, value
        elif isinstance(value, bool):
            yield prefix + name, "true" if value else "false"
        else:
            yield prefix + name, str(value)


class Parquet:
    """Typed columns; a row's line is its number."""

    def __init__(self, path: Path) -> None:
        """Look at the footer.

        Raises:
            LogUnreadable: It is no Parquet file.
        """
        self.path = path
        try:
            self._schema = pl.read_parquet_schema(path)
            self._rows = int(pl.scan_parquet(path).select(pl.len()).collect().item())
        except (pl.exceptions.PolarsError, OSError) as error:
            raise LogUnreadable(f"{path}: no Parquet file: {error}") from error

    def columns(self) -> list[str] | None:
        """Return the columns of the footer."""
        return list(self._schema)

    def chunks(self) -> Iterator[Chunk]:
        """Yield all rows."""
        window_rows = 16 * CHUNK_ROWS
        for begin in range(0, max(self._rows, 1), window_rows):
            window = pl.scan_parquet(self.path).slice(begin, window_rows).collect()
            for first in range(0, max(len(window), 1), CHUNK_ROWS):
                frame = window.slice(first, CHUNK_ROWS)
                line = begin + first + 1
                yield Chunk(
                    frame,
                    np.arange(line, line + len(frame), dtype=np.int64),
                    [],
                    min((line + len(frame)) / max(self._rows, 1), 1.0),
                )


def flush_directory(path: Path) -> None:
    """Make a rename within a directory durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
