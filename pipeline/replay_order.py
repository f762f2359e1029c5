"""chunks in the order of the file → items in the order in which they became known.

The order is total, (time, events before labels, line), and so a function of the log alone: item
number n is the same in every replay. A sorted log is merged as it is read, and only labels that
wait are held; any other log goes through sorted runs on disk, which are merged. Memory is bounded
by the labels that wait, or by one run and a piece of each.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import polars as pl

from pipeline.replay_rows import ITEMS, NO_TIME, BadRow, Mapped, RowMapping
from pipeline.replay_source import LogSource

RUN_ITEMS: Final = 500_000
PIECE_ITEMS: Final = 8_192
SHARE_MIN_ITEMS: Final = 1_024  # read from a run at a time
_ORDER: Final = ("due_ms", "kind", "line")


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What one look at a log's times tells.

    Attributes:
        rows: Rows with an event time.
        sorted: Whether they stand in order of it.
        first_ms: Of event time; 0 without rows.
        last_ms: Of event time.
    """

    rows: int
    sorted: bool
    first_ms: int
    last_ms: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Some items in order.

    Attributes:
        items: Schema `ITEMS`; everything later comes in later pieces.
        bad: Bad rows met on the way.
        fraction: How much of the log has been read, 0..1.
    """

    items: pl.DataFrame
    bad: list[BadRow]
    fraction: float


OnScan = Callable[[float], None]


def look_at(source: LogSource, mapping: RowMapping, on_scan: OnScan | None = None) -> LogFacts:
    """Read a log's times, to learn whether it has to be sorted.

    Raises:
        SpecError: The log lacks a column that the mapping uses.
    """
    columns = source.columns()
    if columns is not None:
        mapping.check_columns(columns)
    rows, last, ordered = 0, NO_TIME, True
    first_ms, last_ms = 2**62, NO_TIME
    for chunk in source.chunks():
        times = mapping.times_ms(chunk)
        times = times[times >= 0]
        if len(times):
            ordered &= bool(times[0] >= last and np.all(times[1:] >= times[:-1]))
            last = int(times[-1])
            first_ms, last_ms = min(first_ms, int(times.min())), max(last_ms, int(times.max()))
            rows += len(times)
        if on_scan is not None:
            on_scan(chunk.fraction)
    return LogFacts(rows, ordered, first_ms if rows else 0, last_ms if rows else 0)


def in_order(
    source: LogSource, mapping: RowMapping, facts: LogFacts
) -> Generator[Piece, None, None]:
    """Yield all items of a log in their total order."""
    pieces = _map(source, mapping)
    return _merge_waiting(pieces) if facts.sorted else _merge_runs(pieces)


def _map(source: LogSource, mapping: RowMapping) -> Iterator[tuple[Mapped, int, float]]:
    """Yield what each chunk means, its newest event time, and the fraction read."""
    for chunk in source.chunks():
        times = mapping.times_ms(chunk)
        newest_ms = int(times.max()) if len(times) else NO_TIME
        yield mapping.items_of(chunk), newest_ms, chunk.fraction


def _merge_waiting(
    pieces: Iterator[tuple[Mapped, int, float]],
) -> Generator[Piece, None, None]:
    """Merge a sorted log with the labels of its past; hold what is not due yet."""
    waiting = pl.DataFrame(schema=ITEMS)
    newest_ms, fraction = NO_TIME, 0.0
    for mapped, chunk_ms, fraction in pieces:
        newest_ms = max(newest_ms, chunk_ms)
        both = pl.concat([waiting, mapped.items])
        due = pl.col("due_ms") < newest_ms  # at that very time the next chunk may have more
        waiting = both.filter(~due)
        yield Piece(both.filter(due).sort(_ORDER), mapped.bad, fraction)
    waiting = waiting.sort(_ORDER)
    for first in range(0, len(waiting), PIECE_ITEMS):
        yield Piece(waiting.slice(first, PIECE_ITEMS), [], fraction)


def _merge_runs(
    pieces: Iterator[tuple[Mapped, int, float]],
) -> Generator[Piece, None, None]:
    """Sort a log in runs on disk, then merge them; the first piece comes when all was read."""
    with TemporaryDirectory(prefix="riskbeat-replay-") as folder:
        runs: list[Path] = []
        held: list[pl.DataFrame] = []
        size = 0
        for mapped, _, _ in pieces:
            if mapped.bad:
                yield Piece(pl.DataFrame(schema=ITEMS), mapped.bad, 0.0)
            held.append(mapped.items)
            size += len(mapped.items)
            if size >= RUN_ITEMS:
                runs.append(_write_run(held, Path(folder) / f"{len(runs)}.arrow"))
                held, size = [], 0
        if size:
            runs.append(_write_run(held, Path(folder) / f"{len(runs)}.arrow"))
        yield from _merge_sorted(runs)


def _write_run(frames: list[pl.DataFrame], path: Path) -> Path:
    pl.concat(frames).sort(_ORDER).write_ipc(path, compression="uncompressed")
    return path


def _merge_sorted(runs: list[Path]) -> Iterator[Piece]:
    """Merge runs: whatever is due before every run's next unread item can go."""
    lengths = [int(pl.scan_ipc(run).select(pl.len()).collect().item()) for run in runs]
    total = max(sum(lengths), 1)
    share = max(PIECE_ITEMS // max(len(runs), 1), SHARE_MIN_ITEMS)
    pieces = [_pieces_of(run, length, share) for run, length in zip(runs, lengths, strict=True)]
    ahead = [next(piece, None) for piece in pieces]
    waiting = pl.DataFrame(schema=ITEMS)
    sent = 0
    while True:
        unread = [frame for frame in ahead if frame is not None]
        waiting = pl.concat([waiting, *unread])
        ahead = [
            next(piece, None) if ahead[n] is not None else None for n, piece in enumerate(pieces)
        ]
        starts_ms = [int(frame["due_ms"][0]) for frame in ahead if frame is not None]
        due = pl.col("due_ms") < (min(starts_ms) if starts_ms else 2**62)
        ready = waiting.filter(due).sort(_ORDER)
        waiting = waiting.filter(~due)
        sent += len(ready)
        yield Piece(ready, [], sent / total)
        if not starts_ms:
            return


def _pieces_of(run: Path, length: int, share: int) -> Iterator[pl.DataFrame]:
    """Read a run piece by piece."""
    for first in range(0, length, share):
        yield pl.scan_ipc(run).slice(first, share).collect()
