"""What a spec says of each of its features: type, unit, window, filter, bound, meaning."""

import re
from pathlib import Path

import pytest

from features.spec import FeatureInfo, Spec
from features.spec_yaml import span_text
from tests.unit.features.specs import ROOT, SMALL, spec_of
from tests.unit.features.specs_rich import RICH

DAY_MS = 86_400_000


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return spec_of(RICH, tmp_path)


def test_a_description_says_everything_about_a_filtered_sum(spec: Spec) -> None:
    assert spec.describe("card.sum_of_amount_over_24h_where_ecom") == FeatureInfo(
        name="card.sum_of_amount_over_24h_where_ecom",
        type="amount",
        unit="0.01 EUR",
        entity="card",
        aggregate="sum",
        window_ms=DAY_MS,
        filter="ecom",
        bound="exact to the millisecond while the window's events are among the card's newest 4;"
        " beyond them the far edge lies up to 22m 30s (one tile) early",
        text="sum of the amounts of the card's events in (t - 24h, t], of those where channel is"
        " ecom or moto",
    )


WORDS: list[tuple[str, str, str, str]] = [
    ("card.count_over_1h", "count", "events", "number of events of the card in (t - 1h, t]"),
    ("card.count_over_24h_where_large", "count", "events", "where amount is at least 100.00 EUR"),
    ("card.ewma_of_amount_over_7d", "amount", "0.01 EUR", "each weighing half as much as one that"),
    ("card.since_last", "number", "s", "time since the card's newest event other than the one tha"),
    ("card.is_new", "flag", "0 or 1", "1 if no other event of the card is remembered, else 0"),
    ("card.changed_country", "flag", "0 or 1", "1 if country differs from that of the card's even"),
    ("card.distance_from_last_km", "number", "km", "great-circle distance from the card's event b"),
    ("card.speed_from_last_km_per_h", "number", "km/h", "missing where the times are equal"),
    ("card.fraud_count_over_90d", "count", "frauds", "labels 'fraud' that became known for the ca"),
    ("card.distinct_merchant_over_1h", "count", "values", "number of different values of merchant"),
    ("card_merchant.is_new", "flag", "0 or 1", "no other event of the card and merchant is remem"),
    ("card.count_over_24h_where_large_per_card.count_over_24h", "number", "1", "divided by card.c"),
    ("event.amount", "amount", "0.01 EUR", "amount of the event, in the base currency"),
    ("event.is_night", "flag", "0 or 1", "1 from 0:00 to 6:00 UTC"),
    ("event.index_of_mcc_in_1024", "index", "0 to 1023", "else 1 + hash mod 1023"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kind", "unit", "text"), WORDS, ids=[row[0] for row in WORDS])
def test_each_kind_of_feature_has_its_type_unit_and_meaning(
    name: str, kind: str, unit: str, text: str, spec: Spec
) -> None:
    info = spec.describe(name)
    assert (info.type, info.unit) == (kind, unit)
    assert spec.feature_units[name] == unit
    assert text in info.text


def test_a_bound_follows_from_the_spec(spec: Spec) -> None:
    level = spec.entities[0].levels[1]
    wrong = 2 ** (8 * (level.tile_ms / 2) / level.window_ms)
    assert f"within a factor of {wrong:.3f}" in spec.feature_bounds["card.ewma_of_amount_over_24h"]
    assert spec.feature_bounds["card.last_of_amount_over_24h"] == "exact to the millisecond"
    assert "one tile" in spec.feature_bounds["card.last_of_amount_over_1h_where_large"]
    for name in ("is_new", "since_last", "changed_country", "distance_from_last_km"):
        bound = spec.feature_bounds[f"card.{name}"]
        assert "within 90d, the longest window; an older one may be forgotten" in bound


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [(15, "15ms"), (1_000, "1s"), (9_375, "9.375s"), (112_500, "1m 52.5s"), (3_600_000, "1h"),
     (162_000_000, "1d 21h"), (86_400_001, "1d 0.001s")],
)  # fmt: skip
def test_a_tile_is_told_as_a_person_reads_it(duration_ms: int, text: str) -> None:
    assert span_text(duration_ms) == text


def test_units_follow_the_base_currency(tmp_path: Path) -> None:
    yen = RICH.replace("base: EUR", "base: JPY").replace(
        'rates: {EUR: "1", USD: "0.5"}', 'rates: {JPY: {rate: "1", minor_digits: 0}}'
    )
    spec = spec_of(yen, tmp_path)
    assert spec.feature_units["card.sum_of_amount_over_24h_where_ecom"] == "JPY"
    name = "card.count_over_24h_where_large"
    assert "where amount is at least 100 JPY" in spec.describe(name).text
    mixed = SMALL.replace("event.amount / card.mean", "card.sum_of_amount_over_1s / card.count")
    mixed = mixed.replace("card.count_of_amount_over_1s", "card.count_over_1s")
    ratio = "card.sum_of_amount_over_1s_per_card.count_over_1s"
    assert spec_of(mixed, tmp_path).feature_units[ratio] == "0.01 EUR / events"


@pytest.mark.parametrize("name", ["features.yaml", "features_handbook.yaml"])
def test_every_shipped_feature_is_described_in_vector_order(name: str) -> None:
    spec = Spec.load(ROOT / name)
    assert tuple(spec.features) == spec.feature_names
    for feature, info in spec.features.items():
        assert info.name == feature
        assert all((info.type, info.unit, info.entity, info.aggregate, info.bound, info.text))
        over = re.search(r"_over_(\d+)([smhd])(_where_\w+)?$", feature)
        if info.entity == "event" and over:
            assert info.aggregate in ("ratio", "deviation")
        else:
            assert (info.window_ms is not None) == (over is not None)
    with pytest.raises(KeyError):
        spec.describe("card.count_over_2h")
