"""a log → the vector of each of its events, as the online path would have made it then.

The steps: **1 read** the log in order, parse it in batches, judge lateness and repeats; **2 join**
labels with their events; **3 walk** each entity's rows, and read its features right after each;
**4 write** vectors in log order. Between steps everything is in temporary files, cut so that what
one process holds at a time is bounded, however long the log is.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

import numpy as np
import polars as pl

from pipeline.backfill_job import BUCKET_EVENTS, BUCKET_ROWS, BackfillJob, Batch, Cut
from pipeline.backfill_join import join_bucket
from pipeline.backfill_judge import Judge, Judged
from pipeline.backfill_parse import Parsed, parse_batch
from pipeline.backfill_walk import walk_bucket
from pipeline.backfill_write import join_parts, write_batch
from pipeline.replay_order import Piece
from pipeline.replay_progress import BadRows
from pipeline.replay_rows import EVENT, ITEMS

BATCHES_AHEAD: Final = 2  # for each worker
SHARES: Final = {"reading": 0.5, "joining": 0.2, "walking": 0.12, "writing": 0.18}  # of the time

P = ParamSpec("P")
T = TypeVar("T")
OnTold = Callable[[str, float, Judged], None]


@dataclass(frozen=True, slots=True)
class BackfillLimits:
    """What bounds a backfill beside the job.

    Attributes:
        workers: Count of processes that share the steps.
        limit_events: Take the log to end after so many events.
    """

    workers: int = 1
    limit_events: int | None = None


class InProcess(Executor):
    """An executor without processes: everything is done at once, where it is asked for."""

    def submit(  # noqa: D102
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> "Future[T]":
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def buckets_for(rows: int, entities: int, workers: int) -> tuple[int, int]:
    """Return how many entity buckets and join buckets a log of so many rows is cut into."""
    by_entity = -(-2 * rows * entities // BUCKET_ROWS)  # each event has its row and its label's
    by_identity = -(-rows // BUCKET_EVENTS)
    return max(by_entity, workers), max(by_identity, workers)


class Backfill:
    """One backfill of one log into one file."""

    def __init__(
        self,
        job: BackfillJob,
        pool: Executor,
        limits: BackfillLimits,
        bad_rows: BadRows,
        on_told: OnTold | None = None,
    ) -> None:
        """Take the parts.

        Args:
            job: What is asked.
            pool: Where the steps run.
            limits: How many at a time, and how much of the log.
            bad_rows: Takes what is no event or label.
            on_told: Hears the step, the fraction of the whole, and what became of the events.
        """
        self._job, self._pool, self._limits = job, pool, limits
        self._bad_rows = bad_rows
        self._on_told = on_told
        self._judge = Judge(job)

    def run(
        self, pieces: Generator[Piece, None, None], out: Path, metadata: Mapping[str, str]
    ) -> Judged:
        """Write the vectors of a log.

        Args:
            pieces: The log's items in order.
            out: The Parquet file; it appears when it is complete.
            metadata: Goes into the file, with the counts of `Judged`.

        Raises:
            OSError: The file, or a temporary one, cannot be written.
        """
        job, judged = self._job, self._judge.judged
        cut = self._read(pieces)
        again = self._each("joining", join_bucket, range(job.join_buckets), cut)
        self._judge.leave_out(cut, np.array(sorted(chain(*again)), np.int64))
        _remove(job, "join", range(cut.batches))
        self._each("walking", walk_bucket, range(job.entity_buckets), cut)
        _remove(job, "rows", range(cut.batches))
        rows = self._each("writing", write_batch, range(cut.batches), cut)
        counts = {
            "events": judged.events,
            "rows": judged.written,
            "late": judged.late,
            "repeats": judged.repeats,
            "labels": judged.labels,
            "bad_rows": self._bad_rows.count,
        }
        told = {**metadata, **{f"riskbeat.{name}": str(n) for name, n in counts.items()}}
        join_parts(job, [batch for batch, n in enumerate(rows) if n], out, told)
        return judged

    def _read(self, pieces: Generator[Piece, None, None]) -> Cut:
        """Parse the log, and judge it batch by batch; return how it was cut."""
        waiting: deque[tuple[int, float, Future[Parsed]]] = deque()
        sizes: list[int] = []
        ahead = BATCHES_AHEAD * self._limits.workers

        def judge_next() -> None:
            number, fraction, future = waiting.popleft()
            parsed = future.result()
            self._bad_rows.add_many(parsed.bad)
            self._judge.take(number, parsed)
            self._tell("reading", fraction)

        for items, fraction in self._batches(pieces):
            batch = _batch_of(len(sizes), sum(sizes), items)
            sizes.append(len(items))
            future = self._pool.submit(parse_batch, self._job, batch)
            waiting.append((batch.number, fraction, future))
            while len(waiting) > ahead:
                judge_next()
        while waiting:
            judge_next()
        return Cut.of(sizes)

    def _batches(
        self, pieces: Generator[Piece, None, None]
    ) -> Iterator[tuple[pl.DataFrame, float]]:
        """Gather pieces into batches; write their bad rows down, and stop at the limit."""
        held: list[pl.DataFrame] = []
        size, left, fraction = 0, self._limits.limit_events, 0.0
        for piece in pieces:
            self._bad_rows.add_many(piece.bad)
            items, fraction = piece.items, piece.fraction
            if left is not None:
                nth = np.flatnonzero(items["kind"].to_numpy() == EVENT)
                if len(nth) >= left:
                    held.append(items[: int(nth[left - 1]) + 1] if left else items[:0])
                    pieces.close()
                    break
                left -= len(nth)
            held.append(items)
            size += len(items)
            if size >= self._job.batch_items:
                yield pl.concat(held), fraction
                held, size = [], 0
        rest = pl.concat(held) if held else pl.DataFrame(schema=ITEMS)
        if len(rest):
            yield rest, fraction

    def _each(
        self,
        step: str,
        work: Callable[[BackfillJob, Cut, int], T],
        numbers: Iterable[int],
        cut: Cut,
    ) -> list[T]:
        """Do a step for each number, `workers` at a time; return what came of it, in order."""
        futures = [self._pool.submit(work, self._job, cut, number) for number in numbers]
        done: list[T] = []
        for future in futures:
            done.append(future.result())
            self._tell(step, len(done) / len(futures))
        return done

    def _tell(self, step: str, fraction: float) -> None:
        if self._on_told is not None:
            names = list(SHARES)
            before = sum(SHARES[name] for name in names[: names.index(step)])
            self._on_told(step, before + SHARES[step] * fraction, self._judge.judged)


def _batch_of(number: int, first: int, items: pl.DataFrame) -> Batch:
    columns: dict[str, list[Any]] = {n: items[n].to_list() for n in ("kind", "line", "body")}
    return Batch(number, first, columns["kind"], columns["line"], columns["body"])


def _remove(job: BackfillJob, kind: str, numbers: Sequence[int]) -> None:
    for number in numbers:
        job.file(kind, number).unlink()
