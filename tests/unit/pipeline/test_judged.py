"""Judged rows stand in files exactly once, whatever dies; figures are those of the newest rows."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.judged import JudgeRules
from pipeline.judged_parquet import (
    SCHEMA,
    JudgedUnreadable,
    columns_of_frame,
    read_rows,
)
from tests.bench_judged import NAMES, Bench, SqliteJudgedStore, some
from tests.fakes_judged import DAY_0, DAY_MS, MemoryJudgedStore


def test_a_row_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    rows = [*some(0, 30), *some(30, 50, day=DAY_0 + 1)]
    bench.take(rows)
    frame = bench.on_disk()
    assert frame["key"].to_list() == [row.key for row in rows]
    assert frame["identity"].to_list() == [row.name for row in rows]
    assert frame["event_time"].dt.timestamp("ms").to_list() == [row.event_ms for row in rows]
    assert frame["judged_time"].dt.timestamp("ms").to_list() == [row.judged_ms for row in rows]
    fields = {"fraud": "y", "amount_minor": "amount", "source": "lane_source"}
    for column in (*fields, "p", "card", "outcome", "propensity", "weights_version"):
        field = fields.get(column, column)
        assert frame[column].to_list() == [getattr(row, field) for row in rows]
    beliefs = np.stack([np.frombuffer(row.beliefs, "<f4") for row in rows])
    np.testing.assert_array_equal(frame.select(f"logit.{n}" for n in NAMES).to_numpy(), beliefs)


def test_files_are_partitioned_by_event_day_and_full_ones_leave_the_store(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.take([*some(0, 60), *some(60, 100, day=DAY_0 + 1)])
    days = sorted(path.name for path in (tmp_path / "judged").iterdir())
    assert days == ["day=2024-10-04", "day=2024-10-05"]
    assert [name[:12] for name in sorted(bench.files())] == ["000000000001", "000000000041",
                                                             "000000000081"]  # fmt: skip
    assert [seq for seq, _ in bench.store.judged(0, 1000)] == list(range(81, 101))


@pytest.mark.parametrize("rows_before", [0, 1, 39, 40, 41, 80, 95])
@pytest.mark.parametrize("rows_after", [0, 1, 40, 85])
@pytest.mark.parametrize("lost", [0, 7])
def test_a_crash_after_writing_and_before_dropping_leaves_each_row_in_one_file_once(
    tmp_path: Path, rows_before: int, rows_after: int, lost: int
) -> None:
    bench = Bench(tmp_path)
    bench.take(some(0, rows_before))
    bench.take(some(9_000, 9_000 + lost), commit=False)  # taken, never committed
    bench.store.crash()  # the drops after the last commit are forgotten, too
    bench.start()
    bench.take(some(rows_before, rows_before + rows_after))
    bench.take([])
    every = [
        key
        for path in tmp_path.glob("judged/day=*/*.parquet")
        for key in pl.read_parquet(path)["key"].to_list()
    ]
    assert sorted(every) == [number - 500 for number in range(rows_before + rows_after)]


def test_the_join_store_keeps_them_as_the_fake_does(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "evaluation")
    bench.store = SqliteJudgedStore(tmp_path / "join.sqlite")
    bench.start()
    bench.take(some(0, 95))
    bench.take(some(9_000, 9_007), commit=False)
    bench.store.crash()
    bench.start()
    bench.take(some(95, 130))
    bench.take([])
    bench.store.crash()
    bench.start()
    bench.take(some(130, 131))
    files = bench.folder.glob("judged/day=*/*.parquet")
    every = [key for path in files for key in pl.read_parquet(path)["key"].to_list()]
    assert sorted(every) == [number - 500 for number in range(131)]
    assert [seq for seq, _ in bench.store.judged(0, 1000)] == list(range(121, 132))


def test_a_growing_file_is_written_again_only_when_it_is_due(tmp_path: Path) -> None:
    bench = Bench(tmp_path, write_every_s=5000.0)
    bench.take(some(0, 5))
    assert bench.files() == set()
    bench.now_s += 5000
    bench.take(some(5, 8))
    assert len(bench.files()) == 1
    assert len(bench.on_disk()) == 8


def test_another_store_that_begins_at_one_does_not_overwrite_the_files_of_the_first(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path)
    bench.take(some(0, 10))
    bench.store = MemoryJudgedStore()
    bench.start()
    bench.take(some(5, 20))  # five of them were judged before
    assert len(bench.files()) == 2
    assert sorted(bench.on_disk()["key"].to_list()) == [number - 500 for number in range(20)]


def test_what_waits_is_written_at_the_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path, write_every_s=5000.0)
    bench.take(some(0, 5))
    bench.log.close()
    assert len(bench.on_disk()) == 5
    bench.log.close()
    assert len(bench.files()) == 1


def test_old_days_leave_the_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path, keep_days=3)
    for day in range(10):
        bench.log.mark((DAY_0 + day) * DAY_MS, "drift", f"day {day}")
        bench.take(some(day * 10, day * 10 + 10, day=DAY_0 + day))
    for top in ("judged", "marks"):
        assert len(list((tmp_path / top).iterdir())) == 4  # three, and the one that is growing


def test_rows_of_other_predictors_keep_their_beliefs_by_name(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.take(some(0, 10))
    bench.rules = JudgeRules(predictors=(NAMES[1],), file_rows=40, window_rows=100)
    bench.store.commit()
    bench.start()
    bench.take(some(10, 20, k=1))
    columns = columns_of_frame(bench.on_disk())
    old = [np.frombuffer(row.beliefs, "<f4")[1] for row in some(0, 10)]
    new = [np.frombuffer(row.beliefs, "<f4")[0] for row in some(10, 20, k=1)]
    np.testing.assert_array_equal(columns.logits[NAMES[1]], old + new)
    assert np.isnan(columns.logits[NAMES[0]][10:]).all()


@pytest.mark.parametrize(
    ("body", "words"),
    [(b"no parquet", "no Parquet file"), (None, "column `key` is missing")],
)
def test_a_file_of_something_else_is_refused_by_name(
    tmp_path: Path, body: bytes | None, words: str
) -> None:
    path = tmp_path / "other.parquet"
    if body is None:
        pl.DataFrame({name: [1] for name in SCHEMA if name != "key"}).write_parquet(path)
    else:
        path.write_bytes(body)
    with pytest.raises(JudgedUnreadable, match=rf"other\.parquet.*{words}"):
        read_rows([path])
