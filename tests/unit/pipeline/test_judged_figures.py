"""What is told of judged predictions, and when."""

from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from models.cost import Costs
from models.evaluation import figures_of
from pipeline.judged_columns import CHAMPION, JudgedWindow, columns_of
from pipeline.judged_metrics import JudgeMetrics
from pipeline.judged_parquet import (
    read_marks,
)
from tests.bench_judged import NAMES, Bench, some
from tests.fakes_judged import DAY_0, DAY_MS


def test_rolling_figures_are_those_of_the_newest_rows_also_after_a_restart(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    rows = [row for day in range(5) for row in some(day * 50, day * 50 + 50, day=DAY_0 + day)]
    bench.take(rows[:130])
    bench.take(rows[130:])
    for _ in range(20):
        bench.log.committed()
    expected = columns_of(rows[-100:], NAMES)
    for name in (CHAMPION, *NAMES):
        figures = figures_of(expected.scored(name), Costs(), edges_cut=True)
        assert bench.watch.figures[name, "rolling"] == pytest.approx(figures)
    bench.store.crash()
    bench.start()
    for _ in range(20):
        bench.log.committed()
    again = bench.watch.figures[NAMES[0], "rolling"]
    assert again == pytest.approx(figures_of(expected.scored(NAMES[0]), Costs(), edges_cut=True))


def test_learning_does_not_wait_for_figures_more_often_than_the_rules_say(tmp_path: Path) -> None:
    bench = Bench(tmp_path, tell_every_s=1.0)
    bench.take(some(0, 30))  # 1,000 s later
    assert len(bench.watch.figures) == 1
    bench.log.committed()
    bench.now_s += 0.9
    bench.log.committed()
    assert len(bench.watch.figures) == 1
    bench.now_s += 0.2
    bench.log.committed()
    assert len(bench.watch.figures) == 2


def test_a_day_is_told_when_a_later_one_was_judged(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.take(some(0, 30))
    bench.take(some(30, 60))
    for _ in range(10):
        bench.log.committed()
    assert (CHAMPION, "day") not in bench.watch.figures
    bench.take(some(60, 61, day=DAY_0 + 1))
    for _ in range(10):
        bench.log.committed()
    whole = columns_of(some(0, 60), NAMES)
    for name in (CHAMPION, *NAMES):
        told = bench.watch.figures[name, "day"]
        assert told == pytest.approx(figures_of(whole.scored(name), Costs()))


def test_marks_are_kept_once_and_read_by_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.log.mark((DAY_0 + 1) * DAY_MS + 5, "drift", "delayed: scores")
    bench.log.mark(DAY_0 * DAY_MS, "freeze", "exploding norm")
    bench.take(some(0, 3))
    bench.store.crash()
    bench.start()
    bench.take(some(3, 6))
    assert [(mark.kind, mark.text) for mark in read_marks(tmp_path)] == [
        ("freeze", "exploding norm"),
        ("drift", "delayed: scores"),
    ]


def test_a_window_keeps_the_newest_rows_in_order() -> None:
    window = JudgedWindow(7, NAMES)
    rows = some(0, 40)
    for start, stop in ((0, 3), (3, 4), (4, 30), (30, 36), (36, 40)):
        window.add(columns_of(rows[start:stop], NAMES))
        expected = columns_of(rows[max(0, stop - 7) : stop], NAMES)
        np.testing.assert_array_equal(window.columns().champion.p, expected.champion.p)
        for name in NAMES:
            np.testing.assert_array_equal(window.columns().logits[name], expected.logits[name])
    assert len(window) == 7


def test_the_learners_page_tells_each_predictor_and_horizon() -> None:
    registry = CollectorRegistry()
    metrics = JudgeMetrics(registry)
    metrics.judged("delayed.network", "rolling", {"judged": 40.0, "roc_auc": 0.75})
    metrics.judged("delayed.network", "day", {"judged": 7.0})

    def told(horizon: str, figure: str) -> float:
        labels = {"predictor": "delayed.network", "horizon": horizon, "figure": figure}
        value = registry.get_sample_value("riskbeat_predictor_judgement", labels)
        assert value is not None
        return value

    assert (told("rolling", "judged"), told("rolling", "roc_auc")) == (40.0, 0.75)
    assert told("day", "judged") == 7.0
    assert np.isnan(told("day", "roc_auc"))  # no fraud on that day: the figure of another is gone
    days = registry.get_sample_value("riskbeat_judged_days_total", {"predictor": "delayed.network"})
    assert days == 1.0
