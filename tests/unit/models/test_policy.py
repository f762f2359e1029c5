"""Scores become outcomes by a file; one that cannot be meant is refused by line and field."""

from pathlib import Path

import msgspec
import pytest

from models.policy import Policy, PolicyError, Ruling, load_policy, parse_policy

ROOT = Path(__file__).parents[3]
TEXT = """version: 4
risk_levels: {elevated: 0.9, highest: 0.99}
default:
  bands:
    - {outcome: decline, probability: 0.9, percentile: 0.995}
    - {outcome: challenge, probability: 0.5}
    - {outcome: review, percentile: 0.99}
  fallback:
    - {outcome: challenge, amount_at_least: 100000}
    - {outcome: review, amount_at_least: 5000}
event_types:
  top_up:
    bands:
      - {outcome: review, probability: 0.1}
"""
NAN = float("nan")


def a_policy() -> Policy:
    return parse_policy(TEXT, "policy.yaml")


@pytest.mark.parametrize(
    ("probability", "percentile", "outcome"),
    [
        (0.90, 0.995, "decline"),
        (0.95, 0.994, "challenge"),
        (0.50, 0.100, "challenge"),
        (0.49, 0.990, "review"),
        (0.49, 0.989, "approve"),
        (0.95, NAN, "challenge"),
        (0.10, NAN, "approve"),
        (NAN, NAN, "approve"),
    ],
)
def test_the_first_band_whose_bounds_are_all_reached_decides(
    probability: float, percentile: float, outcome: str
) -> None:
    assert a_policy().outcome_of("card_payment", probability, percentile) == outcome


def test_an_event_type_may_have_bands_of_its_own() -> None:
    assert a_policy().outcome_of("top_up", 0.1, 0.0) == "review"
    assert a_policy().fallback_for("top_up", 10**9) == "approve"


@pytest.mark.parametrize(
    ("amount", "outcome"),
    [(100_000, "challenge"), (-100_000, "challenge"), (99_999, "review"), (4_999, "approve")],
)
def test_without_a_score_the_amount_decides(amount: int, outcome: str) -> None:
    assert a_policy().fallback_for("card_payment", amount) == outcome


def test_without_a_score_and_an_amount_only_bounds_of_zero_apply() -> None:
    assert a_policy().fallback_for("card_payment", None) == "approve"
    strict = parse_policy(TEXT.replace("5000}", "0}"), "policy.yaml")
    assert strict.fallback_for("card_payment", None) == "review"


@pytest.mark.parametrize(
    ("percentile", "level"),
    [
        (0.0, "normal"),
        (0.9, "elevated"),
        (0.99, "highest"),
        (1.0, "highest"),
        (NAN, "not_assessed"),
    ],
)
def test_levels_begin_at_their_percentile(percentile: float, level: str) -> None:
    assert a_policy().risk_level_of(percentile) == level


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 4", "version: four", "p.yaml:1: version: Expected `int`, got `str`"),
        ("0.9, highest", "0.999, highest", "p.yaml:2: risk_levels.elevated: elevated begins above"),
        ("decline", "deny", "p.yaml:5: default.bands[0].outcome: Invalid enum value 'deny'"),
        ("probability: 0.5", "probability: 50", "p.yaml:6: default.bands[1].probability: Expected"),
        ("probability: 0.5", "score: 0.5", "p.yaml:6: default.bands[1]: Object contains unknown"),
        ("percentile: 0.99}", "}", "p.yaml:7: default.bands[2]: expected `probability`"),
        ("5000}", "-1}", "p.yaml:10: default.fallback[1].amount_at_least: Expected `int` >= 0"),
        (
            "probability: 0.1}",
            "probability: x}",
            "p.yaml:14: event_types.top_up.bands[0].probability",
        ),
        ("version: 4", "version: [", "p.yaml:3: not YAML"),
        (
            "version: 4",
            "version: 4\npass_through: {share: 0.7, outcomes: [decline]}",
            "p.yaml:2: pass_through.share: Expected `float` <= 0.5",
        ),
        (
            "version: 4",
            "version: 4\npass_through: {share: 0.0, outcomes: [decline]}",
            "p.yaml:2: pass_through.share: Expected `float` > 0.0",
        ),
        (
            "version: 4",
            "version: 4\npass_through:\n  share: 0.1\n  outcomes: []",
            "p.yaml:4: pass_through.outcomes: Expected `array` of length >= 1",
        ),
        (
            "version: 4",
            "version: 4\npass_through:\n  share: 0.1\n  outcomes:\n    - decline\n    - approve",
            "p.yaml:6: pass_through.outcomes[1]: an approved event is let through already",
        ),
        (
            "version: 4",
            "version: 4\npass_through: {share: 0.1, outcomes: [decline, decline]}",
            "p.yaml:2: pass_through.outcomes[1]: `decline` is listed twice",
        ),
        (
            "version: 4",
            "version: 4\npass_through: {share: 0.1, outcomes: [decline], to: 1}",
            "p.yaml:2: pass_through: Object contains unknown field `to`",
        ),
        (TEXT, "", "p.yaml:1: (top): Expected `object`"),
    ],
)
def test_a_faulty_file_is_refused_by_line_and_field(old: str, new: str, message: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(TEXT.replace(old, new, 1), "p.yaml")
    assert str(refused.value).startswith(message)


def a_passing_policy(share: float = 0.05, more: str = "") -> Policy:
    rule = f"pass_through: {{share: {share}, outcomes: [decline]{more}}}\n"
    return parse_policy(TEXT + rule, "policy.yaml")


def test_the_chance_of_being_let_through_is_the_one_that_is_told() -> None:
    policy = a_passing_policy()
    rulings = [policy.ruling_of("decline", f"default/card/p{i}", 100) for i in range(20_000)]
    passed = [ruling for ruling in rulings if ruling.would_be is not None]
    assert set(passed) == {Ruling("approve", 0.05, "decline")}
    assert set(rulings) - set(passed) == {Ruling("decline", 0.95)}
    assert abs(len(passed) / 20_000 - 0.05) < 4 * (0.05 * 0.95 / 20_000) ** 0.5


def test_the_same_event_is_always_drawn_alike_and_a_new_version_draws_anew() -> None:
    names = [f"default/card/p{i}" for i in range(2_000)]

    def passed(policy: Policy) -> set[str]:
        return {name for name in names if policy.ruling_of("decline", name, 1).would_be}

    policy = a_passing_policy()
    assert passed(policy) == passed(a_passing_policy()) != set()
    assert passed(policy) != passed(msgspec.structs.replace(policy, version=5))
    assert passed(policy) != passed(a_passing_policy(more=", seed: 8"))


def test_only_listed_outcomes_of_bearable_amounts_are_let_through() -> None:
    policy = a_passing_policy(0.5, ", amount_at_most: 1000")
    names = [f"default/card/p{i}" for i in range(200)]
    assert {policy.ruling_of("review", name, 1) for name in names} == {Ruling("review")}
    assert {policy.ruling_of("decline", name, -1_001) for name in names} == {Ruling("decline")}
    assert len({policy.ruling_of("decline", name, 1_000) for name in names}) == 2
    assert len({policy.ruling_of("decline", name, None) for name in names}) == 2


def test_without_the_rule_nothing_is_let_through() -> None:
    assert a_policy().ruling_of("decline", "default/card/p1", 1) == Ruling("decline")


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere.yaml: No such file"):
        load_policy(tmp_path / "nowhere.yaml")


def test_the_policy_that_is_shipped_is_one() -> None:
    policy = load_policy(ROOT / "policy.yaml")
    assert policy.outcome_of("card_payment", 0.95, 0.999) == "decline"
    assert policy.outcome_of("card_payment", 0.01, 0.5) == "approve"
