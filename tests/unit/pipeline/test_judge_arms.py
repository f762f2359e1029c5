"""What became of an arm's decisions is counted by what is known of them, each as it was drawn."""

import numpy as np
import pytest

from models.evaluation import average_precision
from models.rollout_counts import JudgedCounts
from pipeline.join import JoinRow, Net
from pipeline.judge_arms import ROWS_MAX, ArmJudge
from tests.unit.pipeline.test_join import a_row


def judged(
    arm: str, fraud: bool | None, p: float | None = 0.5, outcome: str = "approve", q: float = 1.0
) -> JoinRow:
    row = a_row("e", p=p)
    row.arm, row.outcome, row.propensity = arm, outcome, q
    row.net = None if fraud is None else Net(fraud, 5)
    return row


def test_each_arm_is_counted_by_itself() -> None:
    rng = np.random.default_rng(3)
    judge = ArmJudge()
    truth: dict[str, list[tuple[bool, float]]] = {"2/stable": [], "2/candidate": []}
    rows = []
    for _ in range(300):
        arm = str(rng.choice(list(truth)))
        fraud, p = bool(rng.random() < 0.2), float(rng.random())
        truth[arm].append((fraud, p))
        rows.append(judged(arm, fraud, p, "review" if p > 0.7 else "approve"))
    judge.judge(rows)
    report = judge.report()
    assert report is not None
    assert report.number == 2
    for arm, counts in (("2/stable", report.stable), ("2/candidate", report.candidate)):
        y = np.array([fraud for fraud, _ in truth[arm]], np.uint8)
        p = np.array([p for _, p in truth[arm]])
        assert (counts.judged, counts.frauds) == (len(y), y.sum())
        assert (counts.alerts, counts.caught) == ((p > 0.7).sum(), y[p > 0.7].sum())
        assert counts.average_precision == pytest.approx(average_precision(y, p))
    assert judge.report() is None  # nothing new


def test_what_was_let_through_by_chance_stands_for_its_like() -> None:
    judge = ArmJudge()
    judge.judge(
        [
            judged("1/candidate", True, 0.9, "approve", 0.25),  # would have been an alert
            judged("1/candidate", True, 0.9, "review", 0.75),  # the one above stands for it
            judged("1/candidate", False, 0.1),
        ]
    )
    report = judge.report()
    assert report is not None
    counts = report.candidate
    assert (counts.judged, counts.frauds, counts.alerts, counts.caught) == (5, 4, 4, 4)
    assert report.stable == JudgedCounts()


def test_what_says_nothing_about_an_arm_is_left_out() -> None:
    judge = ArmJudge()
    judge.judge(
        [
            judged("", True),
            judged("1/fallback", True),
            judged("1/stable", None),
            judged("1/stable", True, None),
        ]
    )
    assert judge.report() is None
    judge.judge([judged("1/stable", False)])
    report = judge.report()
    assert report is not None
    assert report.stable.average_precision is None  # there is no fraud to rank


def test_only_the_newest_rollout_counts_and_no_more_than_its_room() -> None:
    judge = ArmJudge()
    judge.judge([judged("1/stable", True)] * 3)
    judge.judge([judged("2/stable", False)] * (ROWS_MAX + 5))
    judge.judge([judged("1/stable", True)])
    report = judge.report()
    assert report is not None
    assert (report.number, report.stable.judged, report.stable.frauds) == (2, ROWS_MAX, 0)
