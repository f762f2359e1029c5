"""The learner's page tells what it holds and rejects at the moment at which it is asked."""

from pathlib import Path

from pipeline.held_metrics import HeldMetrics
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.learn_metrics import LearnMetrics
from pipeline.position import StepCounts


def test_lag_and_room_are_those_of_the_moment(tmp_path: Path) -> None:
    registry = LearnMetrics(float).registry
    metrics = HeldMetrics(registry)
    behind = {"decisions": 3, "labels": 0}
    metrics.watch_log(lambda: behind)
    store = SqliteJoinStore(tmp_path / "join.sqlite")
    metrics.watch_store(store, 1_000)

    def shown(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"riskbeat_{name}", labels)

    assert shown("learn_lag_records", topic="decisions") == 3
    behind["decisions"] = 5
    assert shown("learn_lag_records", topic="decisions") == 5
    assert shown("learn_lag_records", topic="labels") == 0
    assert shown("join_rows") == store.rows == 0
    assert shown("join_bytes") == store.used_bytes
    assert shown("join_held_labels") == store.held == 0
    assert shown("join_max_bytes") == 1_000
    store.close()


def test_rejects_count_by_their_code() -> None:
    metrics = LearnMetrics(float)
    metrics.stepped(StepCounts(rejects={"malformed": 2, "wrong_type": 1}), 3, 0.1)
    metrics.stepped(StepCounts(rejects={"malformed": 1}), 1, 0.1)
    for code, count in (("malformed", 3), ("wrong_type", 1)):
        labels = {"code": code}
        assert metrics.registry.get_sample_value("riskbeat_learn_rejects_total", labels) == count
