"""A worker that stands still must say so and end."""

import threading

import pytest

from pipeline.featurize import Place
from pipeline.watch import Lag, LoopGuard, Watch, WorkerStalled

SOURCE, UPDATES = Place("events", 0), Place("updates", 1)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_lag_is_told_by_step() -> None:
    watch = Watch(60, "updates", Clock())
    assert watch.check({SOURCE: 4, UPDATES: 7}, {SOURCE: 10, UPDATES: 8}, False) == Lag(6, 1)


def test_lag_without_progress_stops_the_worker() -> None:
    clock = Clock()
    watch = Watch(60, "updates", clock)
    watch.check({SOURCE: 4}, {SOURCE: 10}, False)
    clock.now_s = 59
    watch.check({SOURCE: 4}, {SOURCE: 90}, False)
    clock.now_s = 61
    with pytest.raises(WorkerStalled, match="events 0 stands at 4, 86 records behind"):
        watch.check({SOURCE: 4}, {SOURCE: 90}, False)


def test_progress_or_nothing_to_read_is_no_stall() -> None:
    clock = Clock()
    watch = Watch(60, "updates", clock)
    for at in range(10):
        clock.now_s += 50
        watch.check({SOURCE: at, UPDATES: 5}, {SOURCE: 100, UPDATES: 5}, False)


def test_an_endless_rebalance_stops_the_worker() -> None:
    clock = Clock()
    watch = Watch(60, "updates", clock)
    watch.check({}, {}, True)
    clock.now_s = 61
    with pytest.raises(WorkerStalled, match="rebalance"):
        watch.check({}, {}, True)


def test_a_loop_that_does_not_turn_ends_the_process() -> None:
    ended: list[int] = []
    guard = LoopGuard(3, lambda: ended.append(1))
    for _ in range(10):
        guard.turned()
        guard.look()
        guard.look()
        guard.look()
    assert ended == []  # it turned within every three looks
    guard.look()
    assert ended == [1]


def test_the_guard_looks_from_a_thread_of_its_own() -> None:
    ended = threading.Event()
    LoopGuard(2, ended.set).start(0.001)
    assert ended.wait(60)
