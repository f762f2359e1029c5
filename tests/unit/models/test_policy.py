"""Scores become outcomes by a file; one that cannot be meant is refused by line and field."""

from pathlib import Path

import pytest

from models.policy import Policy, PolicyError, load_policy, parse_policy

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
        (TEXT, "", "p.yaml:1: (top): Expected `object`"),
    ],
)
def test_a_faulty_file_is_refused_by_line_and_field(old: str, new: str, message: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(TEXT.replace(old, new, 1), "p.yaml")
    assert str(refused.value).startswith(message)


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"nowhere.yaml: No such file"):
        load_policy(tmp_path / "nowhere.yaml")


def test_the_policy_that_is_shipped_is_one() -> None:
    policy = load_policy(ROOT / "policy.yaml")
    assert policy.outcome_of("card_payment", 0.95, 0.999) == "decline"
    assert policy.outcome_of("card_payment", 0.01, 0.5) == "approve"
