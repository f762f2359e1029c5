"""What changes between two policies, and what a policy would have made of past decisions."""

from typing import Any

import msgspec
import pytest

from models.policy_backtest import Backtest
from models.policy_difference import differences, unnumbered
from models.policy_list_copy import ListCopy
from models.policy_lists import ListEntry
from models.policy_values import Policy
from tests.builders_policy import a_book, demand, small_spec
from tests.builders_policy_past import a_record

PASSING = "pass_through: {share: 0.5, outcomes: [decline]}\n"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_spec(tmp_path_factory.mktemp("spec"))


def a_policy(spec: Any, *rules: str, more: str = "") -> Policy:
    return a_book(spec, *rules, more=more).policy


def test_policies_that_mean_the_same_do_not_differ(spec: Any) -> None:
    assert (
        differences(a_policy(spec, demand("r", "review")), a_policy(spec, demand("r", "review")))
        == []
    )


def test_differences_are_told_thing_by_thing(spec: Any) -> None:
    old = a_policy(spec, demand("a", "review"), demand("gone", "decline", ", enabled: false"))
    new = a_policy(
        spec,
        demand("a", "decline", ", version: 2"),
        demand("new", "review", ", shadow: true"),
        'id: f, when: "true", score_at_least: {probability: 0.5}',
        more=PASSING,
    )
    assert differences(old, new) == [
        '~ pass_through: null → {"share":0.5,"outcomes":["decline"],'
        '"amount_at_most":null,"seed":0}',
        "+ rules.new: version 1: review when amount.value == 1000 (shadow)",
        "+ rules.f: version 1: score_at_least when true",
        "- rules.gone: version 1: decline when amount.value == 1000 (disabled)",
        "~ rules.a.version: 1 → 2",
        "~ rules.a.outcome: review → decline",
    ]
    more = "attributes: {bin: string}\n"
    assert differences(a_policy(spec), a_policy(spec, more=more)) == ["+ attributes.bin: string"]
    assert differences(a_policy(spec, more=more), a_policy(spec)) == ["- attributes.bin: string"]


def test_a_rule_that_changes_needs_a_new_version_and_one_that_is_switched_does_not(
    spec: Any,
) -> None:
    old = a_policy(spec, demand("r", "review", ", version: 2"))

    def fault(rule: str) -> str:
        return unnumbered(old, a_policy(spec, rule))

    assert fault(demand("r", "decline", ", version: 2")) == (
        "rule r changes and is still version 2: raise its version"
    )
    assert fault(demand("r", "review")) == "rule r goes from version 2 back to 1"
    assert fault(demand("r", "decline", ", version: 3")) == ""
    assert fault(demand("r", "review", ", version: 2, enabled: false, reason: other")) == ""
    assert fault(demand("other", "decline")) == ""


def test_past_decisions_are_ruled_again_without_chance_and_limits(spec: Any) -> None:
    book = a_book(spec, demand("r", "review"), more=f"{PASSING}rule_limit: {{per_minute: 1}}\n")
    test = Backtest(spec, book, ListCopy())
    test.add([a_record(spec, f"p{i}") for i in range(5)])
    test.add([a_record(spec, "high", value=1, p=0.9, outcome="approve", would_be="decline")])
    test.add([a_record(spec, "blind", value=20_000, p=None, outcome="review")])
    test.add([a_record(spec, "dark", value=1, degraded=["features"])])
    test.add([msgspec.structs.replace(a_record(spec), spec_digest="e" * 64)])
    outlook = test.outlook
    assert (outlook.decisions, outlook.changed, outlook.other_spec) == (8, 5, 1)
    assert outlook.moves == {
        ("approve", "review"): 5,
        ("decline", "decline"): 1,
        ("review", "review"): 1,
        ("approve", "approve"): 1,
    }
    assert outlook.rules == {"r@1": {"hit": 5}}


def test_lists_as_they_are_now_count_for_past_decisions(spec: Any) -> None:
    lists = ListCopy()
    lists.load([ListEntry(list="deny", entity="card", id="c1")])
    lists.settle()
    test = Backtest(spec, a_book(spec), lists)
    test.add([a_record(spec)])
    assert test.outlook.moves == {("approve", "decline"): 1}
