"""When a fit begins, on which rows, and when its trees are adopted: by event time alone."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from models.boosted_options import BoostedOptions
from models.learner import Rows
from models.learner_lightgbm import BoostedLearner, FitOverdue
from models.trees_lightgbm import fit
from tests.builders_rows import LaneOf, some_rows
from tests.stage_of_learners import BOOSTED, HOUR_MS, Options, bytes_of, rows_like

LATER: Options = BOOSTED | {
    "refresh_s": 4 * 3600.0,
    "adopt_after_s": 2 * 3600.0,
    "wait_limit_s": 30.0,
    "keep_rows": 8192,
}


class HeldPool:
    """Runs nothing until it is let go: a fit as slow as one likes."""

    def __init__(self) -> None:
        self.asked: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.asked.append((future, lambda: function(*given)))
        return future

    def let_go(self) -> None:
        for future, run in self.asked:
            if future.set_running_or_notify_cancel():
                future.set_result(run())
        self.asked = []


def a_learner(options: Options = LATER, pool: HeldPool | None = None) -> BoostedLearner:
    learner = BoostedLearner(LaneOf(options=options).context)
    if pool is not None:
        learner._pool = pool  # type: ignore[assignment]
    return learner


def at(hour: int, count: int = 200) -> Rows:
    return some_rows(count, hour, at_ms=hour * HOUR_MS)


def taught(learner: BoostedLearner, hours: Iterator[int] | range) -> BoostedLearner:
    for hour in hours:
        learner.learn_many(at(hour))
        learner.advance(hour * HOUR_MS)
    return learner


def refreshed_at(learner: BoostedLearner, hours: range) -> list[int]:
    found, steady = [], learner.snapshot().steady
    for hour in hours:
        taught(learner, range(hour, hour + 1))
        if learner.snapshot().steady != steady:
            found.append(hour)
            steady = learner.snapshot().steady
    return found


def test_a_fit_begins_at_a_boundary_and_is_adopted_its_time_later() -> None:
    assert refreshed_at(a_learner(), range(1, 20)) == [6, 10, 14, 18]
    assert refreshed_at(a_learner(LATER | {"adopt_after_s": 0.0}), range(1, 17)) == [4, 8, 12, 16]


def test_the_first_trees_come_with_the_first_day_that_can() -> None:
    weekly = LATER | {"refresh_s": 7 * 86_400.0, "adopt_after_s": 0.0, "keep_rows": 4096}
    assert refreshed_at(a_learner(weekly), range(5, 24 * 14 + 2)) == [24, 24 * 7, 24 * 14]


def test_after_drift_it_refreshes_more_often() -> None:
    learner = a_learner(LATER | {"adopt_after_s": 0.0})
    assert refreshed_at(learner, range(1, 9)) == [4, 8]
    learner.pace(2.0)
    assert refreshed_at(learner, range(9, 17)) == [10, 12, 14, 16]
    learner.pace(1.0)
    assert refreshed_at(learner, range(17, 25)) == [20, 24]


def test_a_jump_of_the_clock_adopts_and_begins_once() -> None:
    learner = taught(a_learner(), range(1, 5))
    learner.advance(100 * HOUR_MS)
    assert learner.snapshot().steady == 1
    learner.advance(102 * HOUR_MS)
    assert learner.snapshot().steady == 2


def test_too_few_frauds_are_not_fitted() -> None:
    few = LATER | {"frauds_min": 4000}
    assert refreshed_at(a_learner(few), range(1, 20)) == []
    frauds = a_learner(LATER | {"adopt_after_s": 0.0})
    rows = at(1)
    frauds.learn_many(rows.part(rows.y == 1))
    for hour in range(1, 9):
        frauds.advance(hour * HOUR_MS)
    assert frauds.snapshot().steady == 0


def test_a_slow_fit_changes_nothing_but_the_wait() -> None:
    """Not begun until it is due, and then waited for: the parts are those of a quick one."""
    pool = HeldPool()
    slow, quick = a_learner(pool=pool), a_learner()
    for hour in range(1, 20):
        due = hour % 4 == 2 and hour > 4
        letting = threading.Timer(0.05, pool.let_go)
        if due:
            letting.start()
        for learner in (slow, quick):
            taught(learner, range(hour, hour + 1))
        if due:
            letting.join()
        assert bytes_of(slow.snapshot()) == bytes_of(quick.snapshot())


def test_learning_goes_on_while_a_fit_runs() -> None:
    pool = HeldPool()
    learner = taught(a_learner(pool=pool), range(1, 6))  # begun at 4, due at 6, never run
    assert len(pool.asked) == 1
    assert np.isfinite(learner.predict_many(at(7).X, at(7).z)).all()


def test_a_fit_that_does_not_end_is_named() -> None:
    learner = taught(a_learner(LATER | {"wait_limit_s": 0.01}, HeldPool()), range(1, 6))
    with pytest.raises(FitOverdue, match=r"wait_limit_s = 0\.01"):
        learner.advance(6 * HOUR_MS)


def test_restored_while_a_fit_runs_it_adopts_the_same_trees() -> None:
    """Rows that came, left or were withdrawn since the fit began are no part of it."""
    original = a_learner(LATER | {"keep_rows": 1024})
    parts: dict[str, bytes] = {}
    taught(original, range(1, 5))  # begins at 4
    parts |= original.state_changes()
    original.forget_many(at(3))
    original.learn_many(rows_like(at(3), y=(1 - at(3).y).astype(np.uint8)))
    parts |= original.state_changes()
    restored = a_learner(LATER | {"keep_rows": 1024})
    restored.restore(parts)
    for learner in (original, restored):
        taught(learner, range(5, 11))
    assert original.snapshot().steady == 2
    assert bytes_of(restored.snapshot()) == bytes_of(original.snapshot())
    assert restored.state_changes() == original.state_changes()


def test_rows_do_not_leave_before_the_fit_that_saw_them_is_done() -> None:
    """With a small ring they would be gone at a restart: the trees are kept instead."""
    small = LATER | {"keep_rows": 512, "legit_share": 1.0}
    original = taught(a_learner(small), range(1, 5))
    original.learn_many(at(50, 32))
    assert not checkpoint_of(original)["settled"]  # room was left for so many
    original.learn_many(at(51, 32))
    parts = checkpoint_of(original)
    assert parts["settled"]
    restored = a_learner(small)
    restored.restore(parts)
    for learner in (original, restored):
        learner.advance(6 * HOUR_MS)
    assert original.snapshot().steady == 1
    assert bytes_of(restored.snapshot()) == bytes_of(original.snapshot())


def checkpoint_of(learner: BoostedLearner) -> dict[str, bytes]:
    """All parts, as if none had been taken before."""
    learner._unsaved = {"trees", "pending", "settled"}
    ring = learner._rows
    ring._dirty = set(range(len(ring._rows) // 256))
    return learner.state_changes()


def test_it_fits_what_it_holds_within_its_window() -> None:
    """The same rows fitted by hand: thinned, weighted back, young enough, not withdrawn."""
    options = BOOSTED | {"window_s": 3 * 3600.0, "keep_rows": 4096}
    learner = a_learner(options)
    learner.advance(0)
    hours = [at(hour) for hour in range(1, 7)]
    for rows in hours:
        learner.learn_many(rows)
    learner.forget_many(hours[4])
    learner.advance(6 * HOUR_MS)
    held = learner._rows.held(learner._rows.slots(0, learner._rows.total))
    young = held[(held["at_ms"] >= 3 * HOUR_MS) & (held["live"] == 1)]
    legit = sum(int((rows.y == 0).sum()) for rows in (hours[2], hours[3], hours[5]))
    assert 0.4 < (young["y"] == 0).sum() / legit < 0.6
    assert set(young["w"][young["y"] == 0].tolist()) == {2.0}
    frauds = np.concatenate([rows.ids[rows.y == 1] for rows in (hours[2], hours[3], hours[5])])
    assert sorted(young["id"][young["y"] == 1]) == sorted(frauds)
    expected = fit(young["x"], young["y"], young["w"], _of(options), 1)
    assert learner.snapshot().arrays["value"].tobytes() == expected["value"].tobytes()


def _of(options: Options) -> BoostedOptions:
    return BoostedOptions(**options)  # type: ignore[arg-type]


def test_a_fit_that_fails_is_not_swallowed() -> None:
    pool = HeldPool()
    learner = taught(a_learner(pool=pool), range(1, 5))
    pool.asked[0][0].set_exception(MemoryError("no room"))
    with pytest.raises(MemoryError, match="no room"):
        learner.advance(6 * HOUR_MS)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("mode", "sideways", "mode must be one of refit, grow"),
        ("adopt_after_s", 4 * 3600.0, "adopt_after_s must lie within 0 and 14400"),
        ("trees", 0, "trees must lie within 1 and 4096"),
        ("trees", 2.5, "trees must be int"),
    ],
)
def test_an_option_is_refused_by_name(option: str, value: float | str, told: str) -> None:
    with pytest.raises(ValueError, match=f"boosted: {told}"):
        a_learner(LATER | {option: value})
