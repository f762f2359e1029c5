"""A source that floods, or answers otherwise than it does, stands out; its own rhythm does not."""

import numpy as np
import pytest

from models.label_rates import HOUR_MS, LabelRates, RateRules

RULES = RateRules()


def a_week(rates: LabelRates, hours: int, seed: int = 1, first: int = 0) -> int:
    """Labels by night and day, 5 to 60 an hour, a third of them frauds; returns alarms."""
    rng = np.random.default_rng(seed)
    alarms = 0
    for hour in range(first, first + hours):
        usual = 5 + 55 * (8 <= hour % 24 < 20)
        for part in range(4):
            count = int(rng.poisson(usual / 4))
            frauds = int(rng.binomial(count, 0.33))
            clock_ms = hour * HOUR_MS + part * HOUR_MS // 4
            rates.observe({"manual_review": count}, {"manual_review": frauds}, clock_ms)
            alarms += bool(rates.causes())
    return alarms


@pytest.mark.parametrize("seed", range(5))
def test_nights_and_days_are_no_alarm(seed: int) -> None:
    assert a_week(LabelRates(RULES), 24 * 28, seed) == 0


def test_a_flood_is_seen_within_its_hour_and_is_over_when_it_is_over() -> None:
    rates = LabelRates(RULES)
    a_week(rates, 24 * 7)
    now_ms = 24 * 7 * HOUR_MS
    rates.observe({"manual_review": 5_000}, {"manual_review": 1_600}, now_ms)
    found = rates.causes()
    assert set(found) == {"labels:manual_review", "frauds:manual_review"}
    level, words = found["labels:manual_review"]
    assert level == 5_000
    assert words.startswith("5000 labels of source manual_review within an hour, usual 3")
    rates.observe({}, {}, now_ms + HOUR_MS)
    assert not rates.causes()


def test_a_flood_hardly_makes_the_next_one_usual() -> None:
    rates = LabelRates(RULES)
    a_week(rates, 24 * 7)
    for hour in range(24 * 7, 24 * 7 + 3):
        rates.observe({"manual_review": 5_000}, {}, hour * HOUR_MS)
        assert "labels:manual_review" in rates.causes()


def test_turned_labels_are_seen_by_their_share() -> None:
    rates = LabelRates(RULES)
    a_week(rates, 24 * 7)
    now_ms = 24 * 7 * HOUR_MS
    rates.observe({"manual_review": 90}, {"manual_review": 80}, now_ms)
    rates.observe({"manual_review": 150}, {"manual_review": 140}, now_ms + HOUR_MS)
    assert "share:manual_review" in rates.causes()
    a_week(rates, 24, first=24 * 7 + 2)
    assert "share:manual_review" not in rates.causes()


def test_a_new_source_is_known_first_and_tested_then() -> None:
    rates = LabelRates(RULES)
    a_week(rates, 24 * 7)
    now_ms = 24 * 7 * HOUR_MS
    rates.observe({"partner": 50_000}, {"partner": 50_000}, now_ms)
    assert not rates.causes()


def test_silence_is_nobody_and_sources_are_bounded() -> None:
    rates = LabelRates(RULES)
    rates.observe({f"s{number}": 1 for number in range(500)}, {}, 0)
    rates.observe({"silence": 10**6, "": 10**6}, {}, HOUR_MS)
    for hour in range(2, 60):
        rates.observe({}, {}, hour * HOUR_MS)
    rates.observe({"silence": 10**6, "": 10**6}, {}, 60 * HOUR_MS)
    assert not rates.causes()
    assert len(rates.dumps()) < 64 * 250


def test_it_goes_on_from_its_state_and_empty_hours_count_one_by_one() -> None:
    jumped, walked = LabelRates(RULES), LabelRates(RULES)
    for rates in (jumped, walked):
        a_week(rates, 24 * 3)
    other = LabelRates(RULES)
    other.loads(jumped.dumps())
    assert other.dumps() == jumped.dumps()
    for hour in range(24 * 3, 24 * 5):
        walked.observe({}, {}, hour * HOUR_MS)
    for rates in (other, walked):
        rates.observe({"manual_review": 4_000}, {}, 24 * 5 * HOUR_MS)
    assert other.causes() == walked.causes() != {}
