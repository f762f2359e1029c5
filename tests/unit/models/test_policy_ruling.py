"""Who has the last word: deny, watch, allow, rules, score; what shadows and halts leave alone."""

import itertools
import random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decision import RuleHit
from models.policy_lists import ListChange, ListEntry, ListName
from models.policy_ruling import Ruler, Scored
from models.policy_store import Switch
from models.policy_values import SEVERITY, Ruling
from tests.builders_policy import NOW_MS, a_payment, a_ruler, demand, small_spec

OUTCOMES = ("approve", "review", "challenge", "decline")
SCORES = {"approve": 0.1, "review": 0.6, "decline": 0.9}
FEATURES = 64  # more than the spec has; no rule here reads them
PASSING = "pass_through: {share: 0.5, outcomes: [decline]}\n"


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return small_spec(tmp_path_factory.mktemp("spec"))


def put(ruler: Ruler, *lists: ListName, **changes: Any) -> None:
    for name in lists:
        entry = ListEntry(list=name, entity="card", id="c1", **changes)
        ruler.lists.change([ListChange(entry, entry)])


def rule_one(ruler: Ruler, p: float | None = 0.1, now_ms: int = NOW_MS, **event: Any) -> Ruling:
    scored = None if p is None else Scored([p], [float("nan")])
    X = np.ones((1, FEATURES), np.float32)
    return ruler.rule_many([a_payment(**event)], X, scored, now_ms)[0]


def oracle(score: str, rules: list[str], lists: set[str]) -> str:
    """The order of precedence, said once more in other words."""
    if "deny" in lists:
        return "decline"
    if "allow" in lists and "watch" not in lists:
        return "approve"
    words = [] if "approve" in rules else [score]
    words += [rule for rule in rules if rule != "approve"]
    words += ["review"] if "watch" in lists else []
    return max(words, key=OUTCOMES.index, default="approve")


@settings(max_examples=50, deadline=None)
@given(
    score=st.sampled_from(sorted(SCORES)),
    demands=st.lists(st.sampled_from(OUTCOMES), max_size=4),
    lists=st.sets(st.sampled_from(["deny", "watch", "allow"])),
    seed=st.integers(0, 1000),
)
def test_precedence_is_total_and_no_order_matters(
    spec: Any, score: str, demands: list[str], lists: set[ListName], seed: int
) -> None:
    rules = [demand(f"r{i}", outcome) for i, outcome in enumerate(demands)]
    shuffled = list(rules)
    random.Random(seed).shuffle(shuffled)
    told = set()
    for order, names in ((rules, sorted(lists)), (shuffled, sorted(lists, reverse=True))):
        ruler = a_ruler(spec, *order)
        put(ruler, *names)
        told.add(rule_one(ruler, SCORES[score]).outcome)
    assert told == {oracle(score, demands, set(lists))}


@settings(max_examples=30, deadline=None)
@given(
    score=st.sampled_from(sorted(SCORES)),
    live=st.lists(st.sampled_from(OUTCOMES), max_size=2),
    shadows=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=3),
    lists=st.sets(st.sampled_from(["deny", "watch", "allow"])),
)
def test_a_shadow_rule_is_recorded_and_changes_nothing(
    spec: Any, score: str, live: list[str], shadows: list[str], lists: set[ListName]
) -> None:
    rules = [demand(f"r{i}", outcome) for i, outcome in enumerate(live)]
    tried = [demand(f"s{i}", outcome, ", shadow: true") for i, outcome in enumerate(shadows)]
    without, with_them = a_ruler(spec, *rules), a_ruler(spec, *tried, *rules)
    for ruler in (without, with_them):
        put(ruler, *lists)
    plain, beside = rule_one(without, SCORES[score]), rule_one(with_them, SCORES[score])
    assert beside._replace(rules=plain.rules) == plain
    assert [hit for hit in beside.rules if hit.state == "shadow"] == [
        RuleHit(id=f"s{i}", version=1, state="shadow") for i in range(len(shadows))
    ]


def test_reasons_name_lists_and_rules_the_strictest_first(spec: Any) -> None:
    ruler = a_ruler(
        spec,
        demand("soft", "review", ', reason: "a look"'),
        demand("hard", "decline", ", code: stolen"),
    )
    put(ruler, "watch", reason="case 7")
    ruling = rule_one(ruler)
    assert [(r.source, r.code, r.feature, r.text) for r in ruling.reasons] == [
        ("list", "watch_list", "entities.card", "case 7"),
        ("rule", "stolen", "", None),
        ("rule", "soft", "", "a look"),
    ]
    assert [hit.id for hit in ruling.rules] == ["soft", "hard"]


def test_a_rule_may_say_how_high_a_score_must_be_taken(spec: Any) -> None:
    floor = 'id: f, when: "amount.value == 1000", score_at_least: {probability: 0.6}'
    ruler = a_ruler(spec, floor)
    assert rule_one(ruler, 0.1).outcome == "review"
    assert rule_one(ruler, 0.9).outcome == "decline"
    assert rule_one(ruler, None).outcome == "approve"  # nothing to be raised
    bands = "event_types:\n  card_payment: {bands: [{outcome: challenge, percentile: 0.9}]}\n"
    by_rank = 'id: f, when: "true", score_at_least: {percentile: 0.95}'
    assert rule_one(a_ruler(spec, by_rank, more=bands), 0.1).outcome == "challenge"


def test_rules_and_lists_hold_without_a_score(spec: Any) -> None:
    fallback = "event_types:\n  card_payment: {bands: [], fallback: [{outcome: challenge}]}\n"
    assert rule_one(a_ruler(spec, more=fallback), None).outcome == "challenge"
    assert rule_one(a_ruler(spec, demand("r", "decline"), more=fallback), None).outcome == "decline"
    assert rule_one(a_ruler(spec, demand("r", "review"), more=fallback), None).outcome == (
        "challenge"
    )
    for name, outcome in {"deny": "decline", "watch": "challenge", "allow": "approve"}.items():
        ruler = a_ruler(spec, more=fallback)
        put(ruler, name)  # type: ignore[arg-type]
        assert rule_one(ruler, None).outcome == outcome


@pytest.mark.parametrize("word", ["deny", "watch", "rule"])
def test_nothing_that_somebody_asked_to_stop_is_let_through_by_chance(spec: Any, word: str) -> None:
    rules = [demand("r", "review")] if word == "rule" else []
    ruler = a_ruler(spec, *rules, more=PASSING)
    if word != "rule":
        put(ruler, word)  # type: ignore[arg-type]
    told = [rule_one(ruler, 0.9, event_id=f"p{i}") for i in range(60)]
    assert {(one.outcome, one.propensity, one.would_be) for one in told} == {("decline", 1.0, None)}


def test_a_shadow_rule_does_not_stop_the_draw(spec: Any) -> None:
    ruler = a_ruler(spec, demand("r", "review", ", shadow: true"), more=PASSING)
    told = [rule_one(ruler, 0.9, event_id=f"p{i}") for i in range(60)]
    assert {one.outcome for one in told} == {"approve", "decline"}
    assert {one.propensity for one in told} == {0.5}


def test_a_snoozed_rule_is_silent_until_its_time(spec: Any) -> None:
    until = "2025-01-01T00:00:00Z"
    ruler = a_ruler(spec, demand("r", "decline", f", snooze_until: {until}"))
    until_ms = int(ruler.book.policy.rules[0].snooze_until.timestamp() * 1000)  # type: ignore[union-attr]
    assert rule_one(ruler, now_ms=until_ms - 1) == Ruling("approve")
    assert rule_one(ruler, now_ms=until_ms).outcome == "decline"


def test_an_operators_snooze_holds_for_every_version_and_ends_by_itself(spec: Any) -> None:
    ruler = a_ruler(spec, demand("r", "decline", ", version: 4"))
    snooze = Switch(rule="r", kind="snoozed", until_ms=NOW_MS + 5, by="me", why="noise", at_ms=1)
    ruler.switch({"r": snooze})
    assert rule_one(ruler).outcome == "approve"
    assert rule_one(ruler, now_ms=NOW_MS + 5).outcome == "decline"


def test_a_rule_that_hits_too_much_is_halted_until_somebody_resumes_it(spec: Any) -> None:
    limited = demand("r", "decline", ", limit: {share: 0.2, of_last: 20}")
    ruler = a_ruler(spec, limited)
    outcomes = [rule_one(ruler, event_id=f"p{i}").outcome for i in range(8)]
    assert outcomes == ["decline"] * 4 + ["approve"] * 4
    assert [hit.state for hit in rule_one(ruler).rules] == ["halted"]
    [halt] = ruler.halts
    assert (halt.rule.key, halt.why) == (
        "r@1",
        "5 hits in the last 20 decisions, 0.2 of them are allowed",
    )
    ruler.switch({})  # nobody has heard of it yet: it stays halted
    assert rule_one(ruler).outcome == "approve"
    ruler.halts.clear()
    halted = Switch(rule="r", kind="halted", version=1, by="s", why=halt.why, at_ms=1)
    ruler.switch({"r": halted})
    assert rule_one(ruler).outcome == "approve"
    ruler.switch({})
    assert [rule_one(ruler).outcome for _ in range(5)] == ["decline"] * 4 + ["approve"]


def test_a_limit_counts_the_last_decisions_and_the_last_minute_alone(spec: Any) -> None:
    text = (demand("r", "decline", ", limit: {share: 0.2, of_last: 10, per_minute: 3}"),)
    ruler = a_ruler(spec, *text)
    for i in range(60):  # one hit in ten decisions, one in six seconds: never too much
        value = 1000 if i % 10 == 0 else 1
        amount = msgspec.structs.replace(a_payment().amount, value=value)  # type: ignore[type-var]
        outcome = rule_one(ruler, now_ms=NOW_MS + i * 2_100, amount=amount).outcome
        assert outcome == ("decline" if value == 1000 else "approve")
    other = a_ruler(spec, demand("r", "decline", ", limit: {per_minute: 3}"))
    times = [0, 20_000, 40_000, 60_000, 61_000]
    assert [rule_one(other, now_ms=NOW_MS + t).outcome for t in times] == (
        ["decline"] * 4 + ["approve"]
    )


def test_a_halt_is_of_one_version_of_a_rule(spec: Any) -> None:
    halted = Switch(rule="r", kind="halted", version=1, by="s", why="w", at_ms=1)
    old, new = (
        a_ruler(spec, demand("r", "decline")),
        a_ruler(spec, demand("r", "decline", ", version: 2")),
    )
    for ruler in (old, new):
        ruler.switch({"r": halted})
    assert (rule_one(old).outcome, rule_one(new).outcome) == ("approve", "decline")


def test_a_policys_limit_is_for_rules_without_their_own_and_never_for_shadows(spec: Any) -> None:
    more = "rule_limit: {per_minute: 1}\n"
    ruler = a_ruler(
        spec,
        demand("a", "review"),
        demand("b", "review", ", limit: {per_minute: 3}"),
        demand("c", "review", ", shadow: true"),
        more=more,
    )
    states = [[hit.state for hit in rule_one(ruler).rules] for _ in range(4)]
    assert states == [
        ["hit", "hit", "shadow"],
        ["halted", "hit", "shadow"],
        ["halted", "hit", "shadow"],
        ["halted", "halted", "shadow"],
    ]


def test_a_rule_that_fails_is_recorded_and_changes_nothing(spec: Any) -> None:
    ruler = a_ruler(spec, 'id: r, when: "1 / (amount.value - 1000) > 0", outcome: decline')
    ruling = rule_one(ruler)
    assert ruling.outcome == "approve"
    assert [(hit.id, hit.state) for hit in ruling.rules] == [("r", "error")]
    assert ruler.errors == {"r@1": "divide by zero"}


def test_lists_know_tenants_entities_and_the_end_of_entries(spec: Any) -> None:
    ruler = a_ruler(spec)
    put(ruler, "deny", tenant="north", until_ms=NOW_MS + 10)
    assert rule_one(ruler).outcome == "approve"
    assert rule_one(ruler, tenant="north").outcome == "decline"
    assert rule_one(ruler, tenant="north", now_ms=NOW_MS + 10).outcome == "approve"
    assert rule_one(ruler, tenant="north", entities={"card": "c2"}).outcome == "approve"
    assert rule_one(ruler, tenant="north", entities={"merchant": "c1"}).outcome == "approve"


def test_of_several_demands_the_severities_are_those_of_the_answer() -> None:
    assert sorted(SEVERITY, key=SEVERITY.__getitem__) == list(OUTCOMES)
    assert all(a != b for a, b in itertools.combinations(SEVERITY.values(), 2))
