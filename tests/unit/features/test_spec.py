"""features.yaml: what it means, and what an error in it says."""

from pathlib import Path

import pytest

from features.spec import Spec, SpecError
from features.spec_levels import Level, coarsen
from features.window_plan import state_bytes_max
from tests.unit.features.specs import ROOT, SMALL, spec_of


@pytest.mark.parametrize(
    ("name", "longest_days"), [("features.yaml", 30), ("features_handbook.yaml", 90)]
)
def test_the_shipped_specs_load(name: str, longest_days: int) -> None:
    spec = Spec.load(ROOT / name)
    assert spec.n_features == len(set(spec.feature_names)) == len(spec.feature_bounds)
    assert set(spec.feature_bounds) == set(spec.feature_names)
    assert spec.longest_window_ms == longest_days * 86_400_000
    assert spec.ttl_s > longest_days * 86_400 + 3600
    for entity in spec.entities:
        assert state_bytes_max(spec, entity) <= spec.limits.blob_max_bytes


def test_a_name_is_a_definition(tmp_path: Path) -> None:
    spec = spec_of(SMALL, tmp_path)
    assert spec.entities[0].feature_names[:5] == (
        "card.count_over_30ms",
        "card.count_over_200ms",
        "card.count_over_1s",
        "card.count_over_10s",
        "card.sum_of_amount_over_200ms",
    )
    assert "card.distinct_merchant_over_10s" in spec.feature_names
    assert spec.feature_names[-3:] == (
        "event.is_weekend",
        "event.amount_per_card.mean_of_amount_over_1s",
        "card.deviation_of_amount_over_1s",
    )
    assert spec.entity_index == {"card": 0, "merchant": 1}
    assert [field.name for field in spec.entities[0].fields] == ["merchant", "country"]
    assert spec.entities[0].windows_ms == (30, 200, 1_000, 10_000, 20_000)
    assert spec.event_rules.event_types["login"].amount_required is False
    assert spec.head_events == 4


def test_a_bound_is_a_sentence_with_the_tile(tmp_path: Path) -> None:
    bounds = spec_of(SMALL, tmp_path).feature_bounds
    assert bounds["card.since_last"].startswith("exact to the millisecond while the event before")
    assert "newest 4;" in bounds["card.sum_of_amount_over_1s"]
    assert "up to 15ms (one tile)" in bounds["card.sum_of_amount_over_1s"]
    assert "labels are among the card's newest 3" in bounds["card.fraud_rate_over_10s"]
    assert "standard error 13 %" in bounds["card.distinct_country_over_1s"]


def test_the_digest_is_of_the_meaning_and_not_of_the_text(tmp_path: Path) -> None:
    digest = spec_of(SMALL, tmp_path).digest
    assert len(bytes.fromhex(digest)) == 32
    assert spec_of(SMALL.replace("24h", "1d") + "\n# a remark\n", tmp_path).digest == digest
    for old, new in [
        ("count: [30ms,", "count: [31ms,"),
        ('USD: "0.9215"', 'USD: "0.9216"'),
        ('rates_version: "1"', 'rates_version: "2"'),
        ("head_events: 4", "head_events: 5"),
        ("[hour, weekday", "[weekday, hour"),
        ("amount_required: false", "amount_required: true"),
    ]:
        assert spec_of(SMALL.replace(old, new), tmp_path).digest != digest, new


BAD: list[tuple[str, str, str]] = [
    ("head_events: 4", "head_events: 0", "features.yaml:12: limits.head_events: expected a whole"),
    ("head_events: 4", "head_event: 4", "limits.head_event: unknown name; expected one of: blob"),
    ("reorder: 40ms", "reorder: 2d", "limits.reorder: expected at most 1h"),
    ("blob_max_bytes: 65536", "blob_max_bytes: 700", "entities.card: expected a state of at most"),
    ("    mean: [1s]", "    mean: [1 s]", "features.yaml:17: entities.card.mean[0]: expected a du"),
    ("    mean: [1s]", "    mean: 1s", "entities.card.mean: expected a list"),
    ("    mean: [1s]", "    mean: [[1s]]", "entities.card.mean[0]: expected a single value"),
    ("    mean: [1s]", "    median: [1s]", "entities.card.median: unknown name"),
    ("    mean: [1s]", "    mean: [1s, 1000ms]", "mean[1]: this window stands here twice"),
    ("    mean: [1s]", "    mean: [401d]", "entities.card.mean[0]: expected at most 400d"),
    ("    mean: [1s]", "    sum: [1s]", "entities.card.sum: this name stands here twice"),
    ("since_last: true", "since_last: maybe", "since_last: expected one of: false, true; got 'ma"),
    ("      country: [1s]", "      Country: [1s]", "expected the name of an entity or of an attr"),
    ("  merchant:\n    count", "  event:\n    count", "entities.event: expected a name of small"),
    ("count: [1s]\n    fraud_rate: [1010ms]", "since_last: true", "over 1 to 12 different windows"),
    ("base: EUR", "base: XXX", "money.base: expected one of: EUR, JPY, USD; got 'XXX'"),
    ('EUR: "1"', 'EUR: "2"', 'money.rates.EUR: expected "1", the rate of the base currency'),
    ('USD: "0.9215"', "USD: nan", "money.rates.USD: expected a positive decimal number"),
    ('USD: "0.9215"', "USD: much", 'expected a positive decimal number such as "0.92"; got \'mu'),
    ('USD: "0.9215"', 'USD: "18"', "money.rates.USD: expected a rate of at most 17"),
    ('USD: "0.9215"', 'usd: "1"', "money.rates.usd: expected a currency code of three capital"),
    ("minor_digits: 0", "minor_digits: 9", "rates.JPY.minor_digits: expected a whole number in"),
    ("primary: card}", "primary: cart}", "event_types.card_payment.primary: expected one of: card"),
    ("  login:", "  Login:", "event_types.Login: expected a name of small letters"),
    ("  - event.amount /", "  - event.amount of", "ratios[0]: expected two features, as in"),
    ("  - event.amount", "  - event.sum", "ratios[0]: expected a feature that this file declares"),
    ("deviations:\n  card: [1s]", "deviations:\n  card: [2s]", "mean_of_amount_over_2s' is none"),
    ("calendar: [hour,", "calendar: [hour, hour,", "calendar[1]: this feature stands here twice"),
    ("calendar: [hour,", "calendar: [moon,", "calendar[0]: expected one of: hour, night"),
    ("money:", "cash:", "cash: unknown name; expected one of"),
    ("limits:", "limits: {", "no YAML"),
]


@pytest.mark.parametrize(("old", "new", "expected"), BAD, ids=[row[1].strip() for row in BAD])
def test_an_error_names_file_line_field_and_expectation(
    old: str, new: str, expected: str, tmp_path: Path
) -> None:
    assert old in SMALL
    with pytest.raises(SpecError) as caught:
        spec_of(SMALL.replace(old, new, 1), tmp_path)
    assert str(caught.value).startswith("features.yaml:")
    assert expected in str(caught.value)


def test_what_is_no_mapping_or_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="expected a mapping; the file is empty"):
        spec_of("", tmp_path)
    with pytest.raises(SpecError, match="expected a mapping of names"):
        spec_of("- a", tmp_path)
    with pytest.raises(SpecError, match=r"expected the field .entities."):
        spec_of("money: {}\nevent_types: {}", tmp_path)
    with pytest.raises(SpecError, match=r"absent.yaml:1: document: cannot be read"):
        Spec.load(tmp_path / "absent.yaml")
    with pytest.raises(SpecError, match="expected at least one event type"):
        spec_of(SMALL.replace("  card_payment: {primary: card}\n", "").replace(
            "  login: {primary: card, amount_required: false}", "  {}"), tmp_path)  # fmt: skip
    many = "".join(f"  e{n}: {{count: [1s]}}\n" for n in range(9))
    with pytest.raises(SpecError, match="expected 1 to 8 entities"):
        spec_of(SMALL[: SMALL.index("  card:\n    count")] + many, tmp_path)
    wide = SMALL.replace("      country: [1s]", "".join(f"      a{n}: [1s]\n" for n in range(8)))
    with pytest.raises(SpecError, match="expected at most 8 fields"):
        spec_of(wide, tmp_path)


def test_too_many_features_are_refused(tmp_path: Path) -> None:
    windows = ", ".join(f"{n}s" for n in range(1, 13))
    names = ["count", "sum", "mean", "std", "min", "max", "fraud_count", "label_count"]
    body = "".join(f"    {name}: [{windows}]\n" for name in names)
    entities = "".join(f"  e{n}:\n{body}" for n in range(8))
    text = SMALL[: SMALL.index("entities:")] + "entities:\n" + entities
    text = text.replace("primary: card", "primary: e1").replace("65536", "1000000")
    with pytest.raises(SpecError, match="expected at most 512 features"):
        spec_of(text, tmp_path)


def test_tiles_are_coarsened_where_they_cost_most_and_no_further_than_needed() -> None:
    levels = (Level(6_400, 100, 1), Level(64_000, 1_000, 0b11111111))
    whole = sum(level.bytes_max(0) for level in levels)
    assert coarsen(levels, whole, 0) == levels
    fitted = coarsen(levels, whole - 1, 0)
    assert fitted[0] == levels[0]
    assert fitted[1].tile_ms == 2_000
    with pytest.raises(ValueError, match="do not fit"):
        coarsen(levels, 100, 0)
