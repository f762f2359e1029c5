"""One pass over the Handbook: whose labels it uses when, and which rows are judged."""

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from load_tests.handbook_weeks import TEST_WEEKS, Log, figures_of, judged_rows, read_log
from load_tests.learning_pass import one_pass
from models.plan import Member, Plan
from tests.unit.load_tests.handbook_logs import a_log, turned

NETWORK = Plan(
    lanes={"delayed": {"network": Member("network", {"learning_rate": 0.01, "networks": 1})}},
    lane_frauds_min=1,
)


def scores(log: Log, days: int) -> NDArray[np.float32]:
    return one_pass(log, 1, days, NETWORK).logit


def test_a_day_is_scored_by_labels_through_the_eighth_day_before_and_no_later_one() -> None:
    days = 13
    log = a_log(days)
    told = scores(log, days)
    later = scores(turned(log, 5, days), days)
    for day in range(days):
        today = log.rows(day, day + 1)
        same = bool((told[today] == later[today]).all())
        assert same == (day < 5 + 8), f"day {day}"
    earlier = scores(turned(log, 4, 5), days)
    assert (told[log.rows(0, 12)] == earlier[log.rows(0, 12)]).all()
    assert (told[log.rows(12, 13)] != earlier[log.rows(12, 13)]).any()


def test_a_test_week_leaves_out_cards_that_were_known_then() -> None:
    log = a_log(40)
    week = 21
    rows = set(judged_rows(log, week).tolist())
    for row in range(log.rows(week, week + 7).start, log.rows(week, week + 7).stop):
        day, card = int(log.day[row]), log.card[row]
        in_block = (log.card == card) & (log.day >= 7) & (log.day < 14)
        since = (log.card == card) & (log.day >= 13) & (log.day <= day - 8)
        known = bool((log.y[in_block] == 1).any() or (log.y[since] == 1).any())
        assert (row in rows) == (not known)


def test_a_row_without_a_vector_is_refused(tmp_path: Path) -> None:
    at = pl.datetime_range(
        pl.datetime(2018, 4, 1), pl.datetime(2018, 4, 1, 2), "1h", time_unit="ms", eager=True
    )
    table = pl.DataFrame(
        {
            "TRANSACTION_ID": [0, 1, 2],
            "TX_DATETIME": at,
            "CUSTOMER_ID": [5, 6, 7],
            "TX_TIME_DAYS": [0, 0, 0],
            "TX_FRAUD": [0, 1, 0],
        }
    )
    made = pl.DataFrame(
        {"event_id": ["2", "0", "1"], "event_time": at, "card.a": [2.0, 0.0, 1.0]},
        schema_overrides={"card.a": pl.Float32},
    )
    table.write_parquet(tmp_path / "t.parquet")
    made.write_parquet(tmp_path / "v.parquet")
    log = read_log(tmp_path / "t.parquet", tmp_path / "v.parquet")
    assert log.X[:, 0].tolist() == [0, 1, 2]
    assert (log.y.tolist(), log.card.tolist(), log.names) == ([0, 1, 0], [5, 6, 7], ("card.a",))
    made[:2].write_parquet(tmp_path / "v.parquet")
    with pytest.raises(ValueError, match="1 transactions have no vector"):
        read_log(tmp_path / "t.parquet", tmp_path / "v.parquet")


@pytest.mark.skipif("RISKBEAT_HANDBOOK" not in os.environ, reason="RISKBEAT_HANDBOOK is not set")
def test_the_books_test_weeks_have_the_books_ceiling() -> None:
    """Card precision of a model that knows all, as published: .397 in the first week."""
    table = pl.read_parquet(os.environ["RISKBEAT_HANDBOOK"])
    y = table["TX_FRAUD"].to_numpy().astype(np.uint8)
    log = Log(
        X=np.zeros((len(y), 0), np.float32),
        y=y,
        day=table["TX_TIME_DAYS"].to_numpy().astype(np.int64),
        card=table["CUSTOMER_ID"].to_numpy().astype(np.int64),
        ids=np.arange(len(y)).astype(np.uint64),
        at_ms=np.zeros(len(y), np.int64),
        names=(),
    )
    ceilings = [figures_of(log, y.astype(np.float32), week)[2] for week in TEST_WEEKS]
    assert ceilings[0] == pytest.approx(0.397, abs=5e-4)
    assert np.mean(ceilings) == pytest.approx(0.419, abs=5e-4)
