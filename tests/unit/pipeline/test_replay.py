"""History as a stream: in order, each item when it was due."""

from pathlib import Path

import pytest

from pipeline.replay_order import look_at
from pipeline.replay_ports import Batch, ReplayOptions
from pipeline.replay_rows import EVENT, LABEL
from pipeline.replay_source import open_log
from tests.replaying import (
    BASE_MS,
    MemoryTarget,
    Timed,
    TimedTarget,
    expected,
    items_in,
    mapping_in,
    rows_of,
    run,
    small_chunks,
    some_rows,
    write,
)

pytestmark = pytest.mark.usefixtures("small_chunks")


__all__ = ["small_chunks"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".jsonl"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_items_come_in_order_of_when_they_were_known(
    tmp_path: Path, suffix: str, shuffled: bool
) -> None:
    rows = some_rows(500, shuffled=shuffled)
    path = write(tmp_path / f"log{suffix}", rows)
    assert items_in(path, mapping_in(tmp_path)) == expected(rows)


def test_a_log_knows_whether_it_is_sorted(tmp_path: Path) -> None:
    mapping = mapping_in(tmp_path)
    rows = some_rows(200)
    sorted_log = open_log(write(tmp_path / "a.csv", rows))
    facts = look_at(sorted_log, mapping)
    assert (facts.rows, facts.sorted) == (200, True)
    assert (facts.first_ms, facts.last_ms) == (rows[0]["at"], rows[-1]["at"])
    rows[100], rows[199] = rows[199], rows[100]
    assert not look_at(open_log(write(tmp_path / "b.csv", rows)), mapping).sorted


def test_equal_times_keep_events_before_labels_and_the_order_of_the_log(tmp_path: Path) -> None:
    rows = rows_of([0, 5, 5, 5, 5], [5, 0, None, None, None])
    path = write(tmp_path / "log.csv", rows)
    names = [(kind, name) for _, kind, name in items_in(path, mapping_in(tmp_path))]
    assert names == [
        (EVENT, "p0"), (EVENT, "p1"), (EVENT, "p2"), (EVENT, "p3"), (EVENT, "p4"),
        (LABEL, "p0"), (LABEL, "p1"),
    ]  # fmt: skip


async def test_items_leave_when_they_are_due(tmp_path: Path) -> None:
    rows = rows_of([0, 1_000, 1_001, 60_000], [30_000, None, None, 20_000])
    clock = Timed()
    target = TimedTarget(clock)
    path = write(tmp_path / "log.csv", rows)
    await run(path, mapping_in(tmp_path), target, ReplayOptions(speed=10.0), clock=clock)
    due_s = [0, 0.1, 0.1001, 3.0, 6.0, 8.0]
    assert len(target.arrivals) == 6
    for (came_s, _), want_s in zip(target.arrivals, due_s, strict=True):
        assert want_s <= came_s + 1e-9 <= want_s + 0.011


async def test_a_target_that_was_slow_is_caught_up_with(tmp_path: Path) -> None:
    clock = Timed()

    class Slow(TimedTarget):
        async def send_many(self, batch: Batch) -> None:
            await super().send_many(batch)
            if len(self.arrivals) == 1:
                clock.now += 5.0

    target = Slow(clock)
    path = write(tmp_path / "log.csv", rows_of([n * 1000 for n in range(10)], [None] * 10))
    await run(path, mapping_in(tmp_path), target, ReplayOptions(speed=1.0), clock=clock)
    came = [came_s for came_s, _ in target.arrivals]
    assert came[1:6] == [5.0] * 5
    assert came[9] == pytest.approx(9.0, abs=0.01)


async def test_the_barrier_is_awaited_between_slices_from_the_first_event(tmp_path: Path) -> None:
    target = MemoryTarget({p: [] for p in range(6)})
    seen: list[int] = []

    class Watcher:
        async def wait(self) -> None:
            seen.append(sum(len(records) for records in target.log.values()))

    times = [100, 150, 199, 200, 520, 530]
    path = write(tmp_path / "log.csv", rows_of(times, [None, 100, None, None, None, None]))
    told = await run(
        path,
        mapping_in(tmp_path),
        target,
        ReplayOptions(barrier_ms=100),
        barrier=Watcher(),
    )
    # slices [100, 200), [200, 300) with the label of 250, then nothing, then [500, 600)
    assert seen == [3, 5, 7]
    assert told.events == 6


@pytest.mark.parametrize(
    ("options", "events", "labels"),
    [
        (ReplayOptions(), 4, 3),
        (ReplayOptions(tail=False), 4, 1),
        (ReplayOptions(limit_events=2), 2, 0),
        (ReplayOptions(limit_events=4), 4, 1),
        (ReplayOptions(limit_events=9), 4, 3),
        (ReplayOptions(until_ms=BASE_MS + 300), 3, 1),
        (ReplayOptions(until_ms=BASE_MS + 150), 2, 0),
        (ReplayOptions(until_ms=BASE_MS), 0, 0),
    ],
)
async def test_a_cut_sends_nothing_that_was_not_known_by_then(
    tmp_path: Path, options: ReplayOptions, events: int, labels: int
) -> None:
    path = write(tmp_path / "log.csv", rows_of([0, 100, 200, 300], [150, 500, None, 1]))
    target = MemoryTarget({p: [] for p in range(6)})
    told = await run(path, mapping_in(tmp_path), target, options)
    assert (told.events, told.labels) == (events, labels)
    assert sum(len(records) for records in target.log.values()) == events + labels
