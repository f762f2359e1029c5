"""judged rows ↔ Parquet files, partitioned by event day: `judged/day=2025-03-04/….parquet`.

A row has the columns of `SCHEMA`, and one `logit.<predictor>` for each that said something. Any
tool that reads Parquet can read them.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from models.evaluation import Scored
from pipeline.judged import Kept, Mark
from pipeline.judged_columns import APPROVED, DAY_MS, Columns, Judged, scored_rows

SCHEMA: Final[dict[str, Any]] = {
    "seq": pl.Int64,
    "key": pl.Int64,
    "identity": pl.String,
    "event_time": pl.Datetime("ms", "UTC"),
    "judged_time": pl.Datetime("ms", "UTC"),
    "fraud": pl.UInt8,
    "p": pl.Float64,
    "amount_minor": pl.Float64,
    "card": pl.Int64,
    "outcome": pl.String,
    "propensity": pl.Float64,
    "weights_version": pl.Int64,
    "source": pl.String,
}
MARKS: Final[dict[str, Any]] = {
    "seq": pl.Int64,
    "time": pl.Datetime("ms", "UTC"),
    "kind": pl.String,
    "text": pl.String,
}
LOGIT: Final = "logit."
ROWS_FOLDER, MARKS_FOLDER = "judged", "marks"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class JudgedUnreadable(ValueError):
    """A file is no file of judged rows; names it and what is missing."""


class ParquetJudged:
    """`judged.JudgedFiles` in a folder."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made with the first file."""
        self._folder = folder

    def write(self, kept: Kept) -> None:
        """Write a chunk, one file for each event day; see the port."""
        name = f"{kept.first:012d}-{kept.tag}.parquet"
        for day, frame in _by_day(frame_of(kept.rows), "event_time"):
            _write(frame, self._folder / ROWS_FOLDER / _day_name(day) / name)
        marks = pl.DataFrame([(seq, *mark) for seq, mark in kept.marks], MARKS, orient="row")
        for day, frame in _by_day(marks, "time"):
            _write(frame, self._folder / MARKS_FOLDER / _day_name(day) / name)

    def newest(self, limit: int, before_seq: int) -> Columns:
        """Return the newest rows numbered below that; whole chunks, so it may be more."""
        chunks: dict[str, list[Path]] = {}
        for path in (self._folder / ROWS_FOLDER).glob("day=*/*.parquet"):
            if int(path.name.partition("-")[0]) < before_seq:
                chunks.setdefault(path.name, []).append(path)
        taken: list[pl.DataFrame] = []
        rows = 0
        for name in sorted(chunks, reverse=True):
            if rows >= limit:
                break
            taken.append(read_rows(chunks[name]).filter(pl.col("seq") < before_seq))
            rows += len(taken[-1])
        if not taken:
            return columns_of_frame(pl.DataFrame(schema=SCHEMA))
        return columns_of_frame(pl.concat(taken, how="diagonal").sort("seq"))

    def of_day(self, day: int, limit: int) -> Columns | None:
        """Return all rows of an event day; see the port."""
        paths = sorted((self._folder / ROWS_FOLDER / _day_name(day)).glob("*.parquet"))
        if not paths:
            return columns_of_frame(pl.DataFrame(schema=SCHEMA))
        count = pl.scan_parquet(paths, missing_columns="insert", extra_columns="ignore")
        if int(count.select(pl.len()).collect().item()) > limit:
            return None
        return columns_of_frame(read_rows(paths).sort("seq"))

    def prune(self, before_day: int) -> None:
        """Remove days before that one."""
        oldest = _day_name(before_day)
        for top in (ROWS_FOLDER, MARKS_FOLDER):
            for path in (self._folder / top).glob("day=*"):
                if path.name < oldest:
                    shutil.rmtree(path)


def read_rows(paths: Sequence[Path]) -> pl.DataFrame:
    """Return the rows of files, with every predictor that any of them has.

    A row whose event is in several files (another learner has judged it again) counts once: the
    one with the largest number.

    Raises:
        JudgedUnreadable: A file cannot be read, or lacks a column.
    """
    frames = []
    for path in paths:
        try:
            frame = pl.read_parquet(path, hive_partitioning=False)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise JudgedUnreadable(f"{path}: no Parquet file: {error}") from error
        lacking = [name for name in SCHEMA if name not in frame.columns]
        if lacking:
            raise JudgedUnreadable(
                f"{path}: no file of judged predictions: column `{lacking[0]}` is missing"
            )
        logits = [name for name in frame.columns if name.startswith(LOGIT)]
        try:
            typed = frame.select(
                *(pl.col(name).cast(kind) for name, kind in SCHEMA.items()),
                *(pl.col(name).cast(pl.Float32) for name in logits),
            )
        except pl.exceptions.PolarsError as error:
            raise JudgedUnreadable(f"{path}: {error}") from error
        frames.append(typed)
    if not frames:
        return pl.DataFrame(schema=SCHEMA)
    together = pl.concat(frames, how="diagonal").sort("seq", maintain_order=True)
    return together.unique("key", keep="last", maintain_order=True)


def read_marks(folder: Path) -> list[Mark]:
    """Return all marks under an evaluation folder, by time."""
    paths = sorted((folder / MARKS_FOLDER).glob("day=*/*.parquet"))
    frames = [pl.read_parquet(path, hive_partitioning=False) for path in paths]
    if not frames:
        return []
    together = pl.concat(frames).unique(["time", "kind", "text"]).sort("time")
    times = together["time"].dt.timestamp("ms").to_list()
    return [
        Mark(*mark)
        for mark in zip(times, together["kind"].to_list(), together["text"].to_list(), strict=True)
    ]


def frame_of(rows: Sequence[tuple[int, tuple[str, ...], Judged]]) -> pl.DataFrame:
    """Return numbered rows, each with the names of its beliefs, as a frame of `SCHEMA`."""
    base = pl.DataFrame([(seq, *row[:-1]) for seq, _, row in rows], SCHEMA, orient="row")
    predictors = list(dict.fromkeys(name for _, names, _ in rows for name in names))
    place = {name: index for index, name in enumerate(predictors)}
    logits = np.full((len(rows), len(predictors)), np.nan, np.float32)
    for index, (_, names, row) in enumerate(rows):
        if names and len(row.beliefs) == 4 * len(names):
            logits[index, [place[name] for name in names]] = np.frombuffer(row.beliefs, "<f4")
    return base.with_columns(
        pl.Series(f"{LOGIT}{name}", logits[:, index]) for name, index in place.items()
    )


def columns_of_frame(frame: pl.DataFrame) -> Columns:
    """Return rows of `SCHEMA` as columns."""
    champion: Scored = scored_rows(
        frame["fraud"].to_numpy(),
        frame["p"].to_numpy(),
        (frame["outcome"] == APPROVED).to_numpy(),
        frame["propensity"].to_numpy(),
        frame["amount_minor"].to_numpy(),
        (frame["event_time"].dt.timestamp("ms") // DAY_MS).to_numpy(),
        frame["card"].to_numpy(),
    )
    logits = {
        name.removeprefix(LOGIT): frame[name].cast(pl.Float32).fill_null(np.nan).to_numpy()
        for name in frame.columns
        if name.startswith(LOGIT)
    }
    return Columns(champion, logits)


def _by_day(frame: pl.DataFrame, column: str) -> Iterable[tuple[int, pl.DataFrame]]:
    days = (frame[column].dt.timestamp("ms") // DAY_MS).alias("day")
    for day in days.unique(maintain_order=True).to_list():
        yield day, frame.filter(days == day)


def _write(frame: pl.DataFrame, path: Path) -> None:
    """Put a file in place whole and durably, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    frame.write_parquet(part, compression="zstd")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder: Any = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _day_name(day: int) -> str:
    return f"day={(_EPOCH + timedelta(days=day)).date().isoformat()}"
