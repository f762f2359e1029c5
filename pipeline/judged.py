"""judged predictions → kept until they stand in a file, exactly once; figures of the newest.

Predictions are judged when the truth about their event is known, by what was believed when it was
decided. Rows go into the join store's open transaction, and are durable with the learner's
checkpoint. After a commit they are written to files, and dropped from the store in the next
transaction. A file is named by the first number that it holds, and holds all from there on that
the store has: so a crash between writing and dropping writes the same file again, never a second.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple, Protocol

import msgspec

from models.cost import ASSUMED, Costs
from models.evaluation import figures_of
from pipeline.judged_columns import (
    CHAMPION,
    Columns,
    Judged,
    JudgedWindow,
    columns_of,
)

Horizon = Literal["rolling", "day"]
MarkKind = Literal["drift", "freeze", "thaw", "refresh", "rollback", "learner"]
DAY_ROWS_MAX = 1_000_000
"""A day with more rows has no figures here; `riskbeat evaluate` works them out."""
_FOREVER = 2**62


class Mark(NamedTuple):
    """Something that a curve over time should show: where drift was found, who froze."""

    at_ms: int
    kind: str
    text: str


class Kept(NamedTuple):
    """Entries of the store, decoded.

    Attributes:
        first: Number of the first.
        last: Of the last.
        tag: Of the first's content: tells stores apart that both begin at 1.
        rows: Number, names of the predictors, and row.
        marks: Number and mark.
    """

    first: int
    last: int
    tag: str
    rows: list[tuple[int, tuple[str, ...], Judged]]
    marks: list[tuple[int, Mark]]


class JudgedStore(Protocol):
    """Where judged rows wait for their file; a part of `join.JoinStore`, in its transactions."""

    def keep_judged(self, rows: Sequence[bytes]) -> None:
        """Keep entries under the next numbers, which begin at 1 and are never used again."""

    def judged(self, after_seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return entries with their numbers, in order."""

    def drop_judged(self, upto_seq: int) -> None:
        """Drop entries up to a number, that one too; durable with the next commit."""


class JudgedFiles(Protocol):
    """Where judged rows stay; `judged_parquet.ParquetJudged`."""

    def write(self, kept: Kept) -> None:
        """Write a chunk in place of what its first number's files held; durable on return."""

    def newest(self, limit: int, before_seq: int) -> Columns:
        """Return the newest rows numbered below that, about so many, oldest first."""

    def of_day(self, day: int, limit: int) -> Columns | None:
        """Return all rows of an event day; None if they are more than `limit`."""

    def prune(self, before_day: int) -> None:
        """Remove days before that one."""


class JudgeSink(Protocol):
    """Who is handed judged predictions."""

    def restore(self) -> None:
        """Take up what the store and the files hold; before the first row."""

    def add_many(self, rows: Sequence[Judged]) -> None:
        """Take rows, inside the store's open transaction."""

    def mark(self, at_ms: int, kind: MarkKind, text: str) -> None:
        """Take a mark, likewise."""

    def committed(self) -> None:
        """Hear that all that was taken is durable: after each commit, and while none is due."""

    def close(self) -> None:
        """Let nothing wait any more; after the last commit."""


class JudgeWatch(Protocol):
    """Who is told the figures; `pipeline.metrics.LearnMetrics`."""

    def judged(self, predictor: str, horizon: Horizon, figures: dict[str, float]) -> None:
        """Figures of the newest rows, or of the newest whole event day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRules:
    """What the log of judgements is told.

    Attributes:
        predictors: Names in the order of a row's beliefs.
        window_rows: Newest rows that rolling figures speak of.
        file_rows: Entries of a full file.
        write_every_s: A file that is not full is written again this often while rows come.
        day_every_s: Files and figures of a whole event day at most this often, since in a fast
            replay days are over in no time.
        tell_every_s: Figures of one predictor are worked out this often at most.
        keep_days: Event days that stay on disk.
        costs: What errors cost.
    """

    predictors: tuple[str, ...] = ()
    window_rows: int = 20_480
    file_rows: int = 20_000
    write_every_s: float = 30.0
    day_every_s: float = 10.0
    tell_every_s: float = 0.5
    keep_days: int = 180
    costs: Costs = ASSUMED


class JudgeLog:
    """`JudgeSink` over a store and files."""

    def __init__(
        self,
        rules: JudgeRules,
        store: JudgedStore,
        files: JudgedFiles,
        watch: JudgeWatch,
        tick_s: Callable[[], float],
    ) -> None:
        """Take the ports; `tick_s` is a monotonic clock in seconds."""
        self._rules = rules
        self._store = store
        self._files = files
        self._watch = watch
        self._tick_s = tick_s
        self._window = JudgedWindow(rules.window_rows, rules.predictors)
        self._names = "\n".join(rules.predictors)
        self._waiting = 0
        self._unwritten = False
        self._written_s = tick_s()
        self._told_s = float("-inf")
        self._newest_day = 0
        self._day_told = 0
        self._day_rows: Columns | None = None
        self._day_to_tell: list[str] = []
        self._told = dict.fromkeys((CHAMPION, *rules.predictors), 0)

    def restore(self) -> None:
        """Fill the window with the newest rows on disk."""
        self._window = JudgedWindow(self._rules.window_rows, self._rules.predictors)
        tail = self._store.judged(0, _FOREVER)
        held = self._files.newest(self._rules.window_rows, tail[0][0] if tail else _FOREVER)
        self._take(held)
        if tail:
            for names, group in groupby(kept_of(tail).rows, key=lambda entry: entry[1]):
                self._take(columns_of([row for _, _, row in group], names))
        self._waiting, self._unwritten = len(tail), bool(tail)
        self._day_told = self._newest_day - 1

    def add_many(self, rows: Sequence[Judged]) -> None:
        """Keep rows, and let the newest figures speak of them."""
        if rows:
            self._keep([_encode((self._names, *row)) for row in rows])
            self._take(columns_of(rows, self._rules.predictors))

    def mark(self, at_ms: int, kind: MarkKind, text: str) -> None:
        """Keep a mark."""
        self._keep([_encode((at_ms, kind, text))])

    def committed(self) -> None:
        """Write what is due, and tell the figures of one predictor: little at a time."""
        over = self._newest_day - 1 > self._day_told
        if over and self._day_told <= 0:  # the first rows ever: no day before them was whole
            self._day_told, over = self._newest_day - 1, False
        waited_s = self._tick_s() - self._written_s
        over = over and waited_s >= self._rules.day_every_s
        due = waited_s >= self._rules.write_every_s
        if self._unwritten and (over or due or self._waiting >= self._rules.file_rows):
            self._write()
        if over:
            self._day_told = self._newest_day - 1
            self._day_rows = self._files.of_day(self._day_told, DAY_ROWS_MAX)
            self._files.prune(self._newest_day - self._rules.keep_days)
            self._day_to_tell = list(self._told)
        if self._tick_s() - self._told_s < self._rules.tell_every_s:
            return
        if self._day_to_tell:
            self._tell(self._day_to_tell.pop(0), "day", self._day_rows)
            return
        name = min(self._told, key=lambda name: self._told[name])
        if self._told[name] < self._window.total:
            self._told[name] = self._window.total
            self._tell(name, "rolling", self._window.columns())

    def close(self) -> None:
        """Write what waits, whether it is due or not."""
        if self._unwritten:
            self._write()

    def _keep(self, bodies: list[bytes]) -> None:
        self._store.keep_judged(bodies)
        self._waiting += len(bodies)
        self._unwritten = True

    def _take(self, columns: Columns) -> None:
        if not len(columns):
            return
        self._window.add(columns)
        self._newest_day = max(self._newest_day, int(columns.champion.day.max()))

    def _tell(self, predictor: str, horizon: Horizon, rows: Columns | None) -> None:
        self._told_s = self._tick_s()
        if rows is None or predictor not in rows.predictors:
            return
        figures = figures_of(
            rows.scored(predictor), self._rules.costs, edges_cut=horizon == "rolling"
        )
        self._watch.judged(predictor, horizon, figures)

    def _write(self) -> None:
        """Write the store's entries in chunks; the last goes on growing unless it is full."""
        after, rules = 0, self._rules
        while found := self._store.judged(after, rules.file_rows):
            kept = kept_of(found)
            self._files.write(kept)
            after = kept.last
            if len(found) < rules.file_rows:
                break
            self._store.drop_judged(after)
            self._waiting -= len(found)
        self._unwritten = False
        self._written_s = self._tick_s()


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def kept_of(entries: Sequence[tuple[int, bytes]]) -> Kept:
    """Decode entries of the store, at least one."""
    rows: list[tuple[int, tuple[str, ...], Judged]] = []
    marks: list[tuple[int, Mark]] = []
    names: dict[str, tuple[str, ...]] = {"": ()}
    for seq, body in entries:
        head, *rest = _decode(body)
        if isinstance(head, str):
            if head not in names:
                names[head] = tuple(head.split("\n"))
            rows.append((seq, names[head], Judged(*rest)))
        else:
            marks.append((seq, Mark(head, *rest)))
    tag = f"{zlib.crc32(entries[0][1]):08x}"
    return Kept(entries[0][0], entries[-1][0], tag, rows, marks)
