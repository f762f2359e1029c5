"""The oracles themselves, against figures worked out by hand: they must not be wrong together."""

import math

import pytest

from features.spec import Spec
from tests.oracle import EVENT, LABEL, Oracle, Row
from tests.oracle_answer import EARTH_KM, Answer, Question, distance, ewma_tiled, mean, speed, std
from tests.oracle_sql import SqlOracle
from tests.oracle_streams import spec_in
from tests.oracle_trial import sql_connection

BY_HAND = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1"}}
event_types: {card_payment: {primary: card}}
limits: {head_events: 8, label_head_events: 8, reorder: 1s}
place: {latitude: lat, longitude: lon}
filters:
  online: {channel: ecom}
entities:
  card:
    count: [8s]
    sum: [8s]
    mean: [8s]
    std: [8s]
    min: [8s]
    max: [8s]
    first: [8s]
    last: [8s]
    ewma: [8s]
    distinct: {merchant: [8s]}
    where:
      online: {count: [8s], sum: [8s], first: [8s], last: [8s], distinct: {merchant: [8s]}}
    since_last: true
    is_new: true
    changed: [merchant]
    distance: true
    fraud_count: [8s]
    label_count: [8s]
    fraud_rate: [8s]
"""
ONLINE = 1


def place(latitude: float, longitude: float) -> tuple[int, int]:
    """Return degrees on the scale of a row's fields."""
    return round((latitude + 180) * 10**6) + 1, round((longitude + 180) * 10**6) + 1


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return spec_in(BY_HAND, tmp_path_factory.mktemp("by_hand"))


def both(spec: Spec, rows: list[Row], at_ms: int, own: int = 0) -> dict[str, Answer]:
    """Return what both oracles say, having seen that they say the same."""
    entity = spec.entities[0]
    brute = Oracle(spec, entity, rows).answers(at_ms, own)
    with sql_connection() as sql:
        by_sql = SqlOracle(spec, entity, sql)
        by_sql.fill({"c": rows})
        asked = by_sql.answers([("c", Question(at_ms, own))])
    assert asked.answerable == [True]
    for one, other in zip(brute, asked.of(0), strict=True):
        assert other.admits(one.value)
        assert one.admits(other.value)
    return {
        name.removeprefix("card.").removesuffix("_over_8s"): found
        for name, found in zip(entity.feature_names, brute, strict=True)
    }


def values(spec: Spec, rows: list[Row], at_ms: int, own: int = 0) -> dict[str, float]:
    return {name: found.value for name, found in both(spec, rows, at_ms, own).items()}


def test_every_figure_of_a_window_worked_out_by_hand(spec: Spec) -> None:
    nowhere = (0, 0)
    rows = [
        Row(EVENT, 12_000, 1, 1, 99_999, (7, *nowhere), ONLINE),  # not in (12 s, 20 s]
        Row(EVENT, 12_001, 2, 1, 2, (5, *nowhere), ONLINE),
        Row(EVENT, 18_000, 4, 1, 4, (5, *nowhere)),
        Row(EVENT, 18_000, 3, 1, 9, (6, *nowhere), ONLINE),  # a tie: before id 4
        Row(EVENT, 20_000, 5, 1, 5, (0, *nowhere), ONLINE),
        Row(EVENT, 20_001, 6, 1, 88_888, (8, *nowhere), ONLINE),  # after the question
        Row(LABEL, 12_000, 7, 1, 1),
        Row(LABEL, 12_001, 8, 1, 1),
        Row(LABEL, 15_000, 9, 1, 1),
        Row(LABEL, 15_000, 10, -1, -1),
        Row(LABEL, 20_000, 11, 1, 0),
    ]
    found = values(spec, rows, 20_000, own=5)
    weights = [2.0**-7.999, 2.0**-2, 2.0**-2, 1]
    exact = {
        "count": 4,
        "sum_of_amount": 20,
        "mean_of_amount": 5,
        "min_of_amount": 2,
        "max_of_amount": 9,
        "first_of_amount": 2,
        "last_of_amount": 4,
        "distinct_merchant": 2,
        "count_over_8s_where_online": 3,
        "sum_of_amount_over_8s_where_online": 16,
        "first_of_amount_over_8s_where_online": 2,
        "last_of_amount_over_8s_where_online": 9,
        "distinct_merchant_over_8s_where_online": 2,
        "since_last": 2,
        "is_new": 0,
        "fraud_count": 1,
        "label_count": 2,
        "fraud_rate": 0.5,
    }
    assert {name: found[name] for name in exact} == exact
    assert found["std_of_amount"] == pytest.approx(math.sqrt(6.5), rel=1e-15)
    assert found["ewma_of_amount"] == pytest.approx(
        (2 * weights[0] + 9 * weights[1] + 4 * weights[2] + 5) / sum(weights), rel=1e-14
    )
    assert math.isnan(found["changed_merchant"])  # what asks names no merchant


def test_nothing_is_zero_where_it_counts_and_missing_where_it_does_not(spec: Spec) -> None:
    found = values(spec, [], 20_000)
    zero = ("count", "sum_of_amount", "distinct_merchant", "fraud_count", "label_count")
    assert {name for name, value in found.items() if value == 0} == {
        *zero,
        *(f"{name}_over_8s_where_online" for name in zero[:3]),
    }
    assert {name for name, value in found.items() if value == 1} == {"is_new"}


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        ((0, 0), (90, 0), math.pi / 2 * EARTH_KM),
        ((0, 0), (90, 77), math.pi / 2 * EARTH_KM),
        ((90, -120), (90, 33), 0),
        ((-90, 0), (90, 0), math.pi * EARTH_KM),
        ((0, 0), (0, 180), math.pi * EARTH_KM),
        ((0, 179.5), (0, -179.5), math.pi / 180 * EARTH_KM),
        ((0, 180), (0, -180), 0),
        ((48.8566, 2.3522), (51.5074, -0.1278), 343.556),  # Paris, London
        ((-33.8688, 151.2093), (40.7128, -74.006), 15_988.8),  # Sydney, New York
    ],
)
def test_ways_on_the_sphere(
    spec: Spec, one: tuple[float, float], other: tuple[float, float], km: float
) -> None:
    rows = [
        Row(EVENT, 10_000, 1, 1, 1, (5, *place(*one))),
        Row(EVENT, 13_600, 2, 1, 1, (6, *place(*other))),
    ]
    found = values(spec, rows, 13_600, own=2)
    assert found["distance_from_last_km"] == pytest.approx(km, rel=1e-5, abs=1e-3)
    assert found["speed_from_last_km_per_h"] == pytest.approx(1000 * km, rel=1e-5, abs=1)
    assert found["changed_merchant"] == 1
    assert found["since_last"] == 3.6


def test_no_speed_without_time_and_no_way_without_both_places(spec: Spec) -> None:
    here = place(1, 1)
    rows = [Row(EVENT, 10_000, n, 1, 1, (5, *here)) for n in (1, 2)]
    found = values(spec, rows, 10_000, own=1)  # the last one is the other, though its id is larger
    assert found["distance_from_last_km"] == 0
    assert math.isnan(found["speed_from_last_km_per_h"])
    assert found["changed_merchant"] == 0
    lost = [rows[0], Row(EVENT, 10_000, 2, 1, 1, (5, here[0], 0))]
    assert math.isnan(values(spec, lost, 10_000, own=1)["distance_from_last_km"])
    assert math.isnan(values(spec, rows, 10_001)["changed_merchant"])  # nobody asks


def test_an_oracle_admits_nothing_beyond_its_bound() -> None:
    assert mean(10, 4).admits(2.5)
    assert not mean(10, 4).admits(math.nextafter(2.5, 3))
    assert mean(2**60 + 3, 7).admits(math.nextafter((2**60 + 3) / 7, 0))
    assert not mean(2**60 + 3, 7).admits((2**60 + 3) / 7 * (1 + 2**-51))
    assert std(6, 14, 3).admits(math.sqrt(2 / 3))
    assert not std(6, 14, 3).admits(math.sqrt(2 / 3) * (1 + 2**-49))
    assert std(3 * 7, 3 * 49, 3) == Answer(0.0)
    assert not distance(100.0).admits(100.0 + 1e-8)
    assert distance(math.pi * EARTH_KM).within < 6e-4
    assert not Answer(math.nan).admits(0.0)
    assert not Answer(0.0).admits(math.nan)
    assert Answer(1.0, also=(math.nan,)).admits(math.nan)
    assert math.isnan(speed(Answer(1.0), 0).value)


def test_the_bound_of_a_tiled_ewma_is_the_worst_that_its_weights_allow() -> None:
    """Two events at opposite ends of tiles of a 64th: half a tile each is 4.4 % of weight."""
    window_ms, tile_ms = 64_000, 1_000
    off = [2.0 ** (8 * 0.5 * tile_ms / window_ms * side) for side in (1, -1)]
    true, moved = (100 * 1 + 0 * 1) / 2, (100 * off[0] + 0 * off[1]) / sum(off)
    within = ewma_tiled(true, 50.0, tile_ms, window_ms, 0.0)
    assert abs(moved - true) <= within <= 2.2 * abs(moved - true)
