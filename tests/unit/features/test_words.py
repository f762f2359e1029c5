"""A reason is a sentence that an analyst understands: right units and no identifiers."""

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.spec import Spec
from features.words import EVENTS_MIN, Usual, Words, counted, lasting, plain, span
from features.words_of_spec import words_of
from tests.fakes_serving import an_event
from tests.unit.features.specs import ROOT, spec_of
from tests.unit.features.specs_rich import RICH

EVENT = an_event()


@pytest.fixture(scope="module")
def shipped() -> dict[str, Words]:
    spec = Spec.load(ROOT / "features.yaml")
    return dict(zip(spec.feature_names, words_of(spec), strict=True))


@pytest.fixture
def rich(tmp_path: Path) -> dict[str, Words]:
    spec = spec_of(RICH, tmp_path)
    return dict(zip(spec.feature_names, words_of(spec), strict=True))


SHIPPED = [
    (
        "card.count_over_10m",
        7,
        1.2,
        "7 payments of this card in 10 minutes; usual for this card: 1.2",
    ),
    (
        "card.count_over_10m",
        1,
        0.002,
        "1 payment of this card in 10 minutes; usual for this card: fewer than 0.1",
    ),
    (
        "card.sum_of_amount_over_24h",
        123456,
        4005,
        "total of payments of this card over 24 hours: 1,234.56 EUR; usual for "
        "this card: 40.05 EUR",
    ),
    ("event.amount", 12550, 3000, "amount of 125.50 EUR; usual for this card: 30.00 EUR"),
    (
        "card.since_last",
        3,
        61200,
        "3 seconds since the previous payment of this card; usual for this card: 17 hours",
    ),
    ("card.is_new", 1, 0, "first payment seen of this card"),
    ("card.is_new", 0, 0, "this card was seen before"),
    (
        "card.changed_country",
        1,
        0,
        "country differs from that of the previous payment of this card",
    ),
    ("card.changed_country", 0, 0, "country is that of the previous payment of this card"),
    (
        "merchant.fraud_rate_over_7d",
        0.125,
        0.01,
        "share of fraud among the known outcomes of this merchant over 7 days: "
        "12.5%; usual for this merchant: 1.0%",
    ),
    (
        "merchant.fraud_count_over_7d",
        1,
        0,
        "1 fraud of this merchant in 7 days; usual for this merchant: 0",
    ),
    (
        "merchant.label_count_over_7d",
        2,
        1,
        "2 payments with a known outcome of this merchant in 7 days; usual for this merchant: 1",
    ),
    (
        "card.distinct_merchant_over_1h",
        12,
        1.5,
        "12 different merchants of this card in 1 hour; usual for this card: 1.5",
    ),
    (
        "card_merchant.count_over_1h",
        3,
        1,
        "3 payments of this card with this merchant in 1 hour; usual for this "
        "card with this merchant: 1",
    ),
    (
        "card.deviation_of_amount_over_30d",
        -3.14,
        0,
        "amount lies 3.1 standard deviations below the mean payment of this card over 30 days",
    ),
    (
        "card.deviation_of_amount_over_30d",
        3.0,
        0,
        "amount lies 3 standard deviations above the mean payment of this card over 30 days",
    ),
    ("event.is_night", 0, 0, "at 12:00 UTC"),
    ("event.weekday_sin", 0.7, 0, "on a Sunday (UTC)"),
]


@pytest.mark.parametrize(("name", "value", "usual", "text"), SHIPPED)
def test_the_shipped_spec_in_sentences(
    name: str, value: float, usual: float, text: str, shipped: dict[str, Words]
) -> None:
    assert shipped[name].sentence(value, EVENT, usual, True) == text


def test_what_is_usual_in_general_is_told_apart(shipped: dict[str, Words]) -> None:
    said = shipped["card.count_over_10m"].sentence(7, EVENT, 1.2, False)
    assert said == "7 payments of this card in 10 minutes; usual: 1.2"
    ratio = shipped["event.amount_per_card.mean_of_amount_over_30d"].sentence(4, EVENT, 1.1, False)
    assert ratio == (
        "amount is 4 times the mean payment of this card over 30 days; usual: 1.1 times"
    )


RICHLY = [
    (
        "card.count_over_24h_where_large",
        2,
        "2 events of this card where amount is at least 100.00 EUR in 24 hours; usual: 1.5",
    ),
    (
        "card.first_of_amount_over_24h",
        1234,
        "oldest event of this card over 24 hours: 12.34 EUR; usual: 0.01 EUR",
    ),
    (
        "card.distance_from_last_km",
        512.4,
        "distance from the previous event of this card: 512 km; usual: 1.5 km",
    ),
    (
        "card.speed_from_last_km_per_h",
        0.05,
        "speed from the previous event of this card: 0.05 km/h; usual: 1.5 km/h",
    ),
    ("event.index_of_mcc_in_1024", 7, "mcc is 5732"),
    ("event.index_of_merchant_in_65536", 7, "which merchant it is"),
]


@pytest.mark.parametrize(("name", "value", "text"), RICHLY)
def test_all_that_a_spec_may_say(
    name: str, value: float, text: str, rich: dict[str, Words]
) -> None:
    event = msgspec.structs.replace(EVENT, attributes={"mcc": "5732"})
    assert rich[name].sentence(value, event, 1.5, False) == text


def test_every_feature_of_every_spec_speaks_without_identifiers(
    shipped: dict[str, Words], rich: dict[str, Words]
) -> None:
    secret = an_event(card="tok_9", merchant="m_7", device="d_3", ip="203.0.113.9")
    for name, words in [*shipped.items(), *rich.items()]:
        for value in (None, 0.0, 1.0, 2.5):
            said = words.sentence(value, secret, 1.0, True)
            assert said, name
            assert not any(part in said for part in ("tok_9", "m_7", "d_3", "203.0.113.9", "nan"))
            assert (value is None) == said.endswith(": not known")


def test_a_category_that_is_absent_is_called_so(rich: dict[str, Words]) -> None:
    assert rich["event.index_of_mcc_in_1024"].sentence(0, EVENT, 0, False) == "no mcc is given"


def test_the_entitys_own_usual_is_its_longest_window_on_the_values_scale(
    shipped: dict[str, Words],
) -> None:
    names = list(shipped)
    x = np.full(len(names), np.nan, np.float32)
    x[names.index("card.count_over_30d")] = 60
    x[names.index("card.sum_of_amount_over_30d")] = 720_000
    x[names.index("card.mean_of_amount_over_30d")] = 12_000

    def own(name: str) -> float | None:
        usual = shipped[name].usual
        return None if usual is None else usual.of(x)

    assert own("card.count_over_24h") == pytest.approx(2)
    assert own("card.sum_of_amount_over_1h") == pytest.approx(1000)
    assert own("card.mean_of_amount_over_24h") == 12_000
    assert own("card.ewma_of_amount_over_7d") == 12_000
    assert own("event.amount") == 12_000
    assert own("card.since_last") == pytest.approx(43_200)
    assert own("merchant.count_over_1h") is None  # missing
    assert own("card.count_over_30d") is None  # there is no longer one
    assert own("card.distinct_merchant_over_1h") is None  # different values do not add up
    x[names.index("card.count_over_30d")] = EVENTS_MIN - 1
    assert own("event.amount") is None  # nothing is usual for a card that is hardly known


def test_what_shrinks_as_a_count_grows_needs_a_count() -> None:
    x = np.zeros(1, np.float32)
    assert Usual(0, 60.0, over=True).of(x) is None
    assert Usual(0, 60.0).of(x) == 0


def test_a_spec_without_the_entitys_means_knows_no_usual_amount(rich: dict[str, Words]) -> None:
    assert rich["event.amount"].usual is None
    assert rich["card.last_of_amount_over_24h"].usual is None


def test_numbers_and_times_read_as_people_write_them() -> None:
    assert [plain(v) for v in (0, 0.012, 0.5, 1.25, 9.96, 41.4, 1305, -3)] == [
        "0", "0.012", "0.5", "1.2", "10.0", "41", "1,305", "-3",
    ]  # fmt: skip
    assert [lasting(s) for s in (1, 119, 600, 7_300, 200_000)] == [
        "1 second", "119 seconds", "10 minutes", "2 hours", "2 days",
    ]  # fmt: skip
    assert [span(ms) for ms in (10, 1_000, 600_000, 86_400_000, 172_800_000)] == [
        "10 milliseconds", "1 second", "10 minutes", "24 hours", "2 days",
    ]  # fmt: skip
    assert (counted(1, "day"), counted(1000, "day")) == ("1 day", "1,000 days")
    assert not math.isnan(float(plain(1e9).replace(",", "")))
