"""frames of a log → one file, in the format that its name asks for."""

import gzip
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source

from pipeline.generate import COLUMNS, BadGenerateConfig

ROW_GROUP_ROWS = 131_072
SUFFIXES = (".parquet", ".csv", ".csv.gz", ".jsonl")
GZIP_LEVEL = 4

OnRows = Callable[[int], None]


def write_log(path: Path, frames: Iterable[pl.DataFrame], on_rows: OnRows | None = None) -> int:
    """Write a log frame by frame and return its rows; the file appears when it is complete.

    Args:
        path: Its name's end chooses the format: `SUFFIXES`.
        frames: Rows with the columns `COLUMNS`.
        on_rows: Told the rows so far after each frame.

    Raises:
        BadGenerateConfig: The name has none of the endings.
        OSError: The file cannot be written.
    """
    suffix = next((end for end in sorted(SUFFIXES, key=len) if path.name.endswith(end)), None)
    if suffix is None:
        raise BadGenerateConfig(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")
    counted = _Counted(frames, on_rows)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        if suffix == ".parquet":
            _write_parquet(unfinished, counted)
        elif suffix == ".csv.gz":
            with (
                unfinished.open("wb") as raw,
                gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as file,
            ):
                _write_text(file, counted, csv=True)
        else:
            with unfinished.open("wb") as file:
                _write_text(file, counted, csv=suffix == ".csv")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return counted.rows


class _Counted:
    """Frames that count themselves as they pass."""

    def __init__(self, frames: Iterable[pl.DataFrame], on_rows: OnRows | None) -> None:
        self._frames = frames
        self._on_rows = on_rows
        self.rows = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for frame in self._frames:
            yield frame
            self.rows += len(frame)
            if self._on_rows is not None:
                self._on_rows(self.rows)


def _write_text(
    file: IO[bytes] | gzip.GzipFile, frames: Iterable[pl.DataFrame], *, csv: bool
) -> None:
    for number, frame in enumerate(frames):
        text = frame.write_csv(include_header=number == 0) if csv else frame.write_ndjson()
        file.write(text.encode())  # given the file, polars would write below the compression


def _write_parquet(path: Path, frames: Iterable[pl.DataFrame]) -> None:
    """Stream frames into row groups; polars pulls them one at a time."""

    def pull(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,
    ) -> Iterator[pl.DataFrame]:
        assert predicate is None
        assert n_rows is None
        for frame in frames:
            yield frame if with_columns is None else frame.select(with_columns)

    lazy = register_io_source(pull, schema=COLUMNS)
    lazy.sink_parquet(path, row_group_size=ROW_GROUP_ROWS, maintain_order=True)
