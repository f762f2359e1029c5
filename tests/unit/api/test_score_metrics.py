"""What a scorer counts of scores, reasons and rules is what the records say."""

import random
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from api.policy_metrics import PolicyMetrics
from api.score_metrics import ScoreMetrics
from features.spec import Spec
from models.decision import Reason, RuleHit
from tests.builders_policy_past import a_record

SPEC = Spec.load(Path(__file__).parents[3] / "features.yaml")


def test_the_histogram_of_scores_is_that_of_a_count_by_hand() -> None:
    rng = random.Random(4)
    scores = [0.0, 0.001, 0.1, 1.0, *(rng.random() ** 3 for _ in range(500))]
    registry = CollectorRegistry()
    metrics = ScoreMetrics(registry)
    for begin in range(0, len(scores), 64):
        metrics.observe([a_record(SPEC, p=p) for p in scores[begin : begin + 64]])
    metrics.observe([a_record(SPEC, p=None)])  # rests on the prior: no score
    (family,) = (f for f in registry.collect() if f.name == "riskbeat_score")
    edges = [s.labels["le"] for s in family.samples if s.name == "riskbeat_score_bucket"]
    assert edges[-1] == "+Inf"
    for edge in edges:
        counted = registry.get_sample_value("riskbeat_score_bucket", {"le": edge})
        assert counted == sum(score <= float(edge) for score in scores)
    assert registry.get_sample_value("riskbeat_score_count") == len(scores)
    assert registry.get_sample_value("riskbeat_score_sum") == pytest.approx(sum(scores))


def test_reasons_count_where_an_event_was_stopped_or_would_have_been() -> None:
    registry = CollectorRegistry()
    metrics = ScoreMetrics(registry)
    why = [Reason(code="card.new"), Reason(code="deny_list", source="list")]
    metrics.observe(
        [
            a_record(SPEC, outcome="approve", reasons=why),
            a_record(SPEC, outcome="decline", reasons=why),
            a_record(SPEC, outcome="approve", would_be="review", reasons=why[:1]),
        ]
    )

    def counted(source: str, code: str) -> float | None:
        labels = {"source": source, "code": code}
        return registry.get_sample_value("riskbeat_reasons_total", labels)

    assert counted("model", "card.new") == 2
    assert counted("list", "deny_list") == 1


def test_verdicts_count_by_rule_and_state() -> None:
    registry = CollectorRegistry()
    hits = [
        RuleHit(id="night", version=1, state="hit"),
        RuleHit(id="new", version=1, state="shadow"),
    ]
    PolicyMetrics(registry).observe([a_record(SPEC, rules=hits), a_record(SPEC, rules=hits[:1])])
    for rule, state, expected in (("night", "hit", 2), ("new", "shadow", 1), ("new", "hit", None)):
        labels = {"rule": rule, "state": state}
        assert registry.get_sample_value("riskbeat_rule_verdicts_total", labels) == expected
