"""A log of judgements on a small store and real files."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pipeline.join_sqlite import SqliteJoinStore
from pipeline.judged import JudgeLog, JudgeRules
from pipeline.judged_columns import Judged
from pipeline.judged_parquet import (
    ParquetJudged,
    read_rows,
)
from tests.fakes_judged import MemoryJudgedStore, MemoryJudgeWatch, a_judged

NAMES = ("delayed.network", "challenger.logistic")


class SqliteJudgedStore:
    """The join store's part of it, with `commit` and `crash` as the fake has them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store = SqliteJoinStore(path)

    def keep_judged(self, rows: Sequence[bytes]) -> None:
        self._store.keep_judged(rows)

    def judged(self, after_seq: int, limit: int) -> list[tuple[int, bytes]]:
        return self._store.judged(after_seq, limit)

    def drop_judged(self, upto_seq: int) -> None:
        self._store.drop_judged(upto_seq)

    def commit(self) -> None:
        self._store.commit({})

    def crash(self) -> None:
        self._store.close()
        self._store = SqliteJoinStore(self._path)


class Bench:
    """A log of judgements over a store that can crash, with a clock that a test moves."""

    def __init__(self, folder: Path, **rules: int | float) -> None:
        self.folder = folder
        self.rules = JudgeRules(
            predictors=NAMES,
            **{"file_rows": 40, "window_rows": 100, "tell_every_s": 0.0, **rules},  # type: ignore[arg-type]
        )
        self.store: MemoryJudgedStore | SqliteJudgedStore = MemoryJudgedStore()
        self.now_s = 0.0
        self.start()

    def start(self) -> None:
        self.watch = MemoryJudgeWatch()
        files = ParquetJudged(self.folder)
        self.log = JudgeLog(self.rules, self.store, files, self.watch, lambda: self.now_s)
        self.log.restore()

    def take(self, rows: list[Judged], *, commit: bool = True) -> None:
        self.log.add_many(rows)
        if commit:
            self.store.commit()
            self.now_s += 1000
            self.log.committed()

    def on_disk(self) -> pl.DataFrame:
        return read_rows(sorted(self.folder.glob("judged/day=*/*.parquet")))

    def files(self) -> set[str]:
        return {path.name for path in self.folder.glob("judged/day=*/*.parquet")}


def some(first: int, last: int, **how: int) -> list[Judged]:
    return [a_judged(number, **how) for number in range(first, last)]  # type: ignore[arg-type]
