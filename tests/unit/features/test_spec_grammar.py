"""Composite keys, filters, fields without windows, places, categories: what they come to."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from features.spec import FieldSpec, Spec, SpecError
from features.spec_levels import DISTINCT_SHIFT
from tests.unit.features.specs import spec_of
from tests.unit.features.specs_rich import RICH

HOUR_MS, DAY_MS = 3_600_000, 86_400_000


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return spec_of(RICH, tmp_path)


def test_each_aggregate_has_its_name_in_the_order_of_the_file(spec: Spec) -> None:
    assert spec.entities[0].feature_names == (
        "card.count_over_1h",
        "card.count_over_24h",
        "card.first_of_amount_over_24h",
        "card.last_of_amount_over_24h",
        "card.ewma_of_amount_over_24h",
        "card.ewma_of_amount_over_7d",
        "card.distinct_merchant_over_1h",
        "card.since_last",
        "card.is_new",
        "card.changed_country",
        "card.changed_device",
        "card.distance_from_last_km",
        "card.speed_from_last_km_per_h",
        "card.count_over_24h_where_large",
        "card.last_of_amount_over_1h_where_large",
        "card.count_over_10m_where_ecom",
        "card.sum_of_amount_over_24h_where_ecom",
        "card.distinct_merchant_over_24h_where_ecom",
        "card.fraud_count_over_90d",
    )
    assert spec.feature_names[-5:] == (
        "event.is_night",
        "card_merchant.sum_of_amount_over_30d_per_card.ewma_of_amount_over_7d",
        "card.count_over_24h_where_large_per_card.count_over_24h",
        "event.index_of_mcc_in_1024",
        "event.index_of_merchant_in_65536",
    )
    assert spec.category_columns == {
        "event.index_of_mcc_in_1024": spec.n_features - 2,
        "event.index_of_merchant_in_65536": spec.n_features - 1,
    }


def test_levels_are_sorted_by_filter_and_window_and_features_point_at_theirs(spec: Spec) -> None:
    card = spec.entities[0]
    assert [(level.filter, level.window_ms) for level in card.levels] == [
        (-1, HOUR_MS), (-1, DAY_MS), (-1, 7 * DAY_MS), (-1, 90 * DAY_MS),
        (0, HOUR_MS // 6), (0, DAY_MS),
        (1, HOUR_MS), (1, DAY_MS),
    ]  # fmt: skip
    assert card.filter_bits == 0b011
    assert spec.entities[1].filter_bits == 0
    assert card.longest_window_ms == spec.longest_window_ms == 90 * DAY_MS
    for entity in spec.entities:
        for feature in entity.features:
            if feature.level is None:
                assert "_over_" not in feature.name
                continue
            level = entity.levels[feature.level]
            where = feature.name.partition("_where_")[2]
            assert where == ("" if level.filter < 0 else spec.filters[level.filter].name)


def test_fields_are_shared_and_the_longitude_stands_behind_the_latitude(spec: Spec) -> None:
    card = spec.entities[0]
    assert card.fields == (
        FieldSpec("merchant"),
        FieldSpec("country"),
        FieldSpec("device"),
        FieldSpec("lat", "latitude"),
        FieldSpec("lon", "longitude"),
    )
    assert spec.max_fields == 5
    field_of = {feature.aggregate: feature.field for feature in card.features}
    assert field_of["distance"] == field_of["speed"] == 3
    assert field_of["since_last"] is None
    assert [f.field for f in card.features if f.aggregate == "changed"] == [1, 2]
    registers = [level.columns >> DISTINCT_SHIFT for level in card.levels]
    assert registers == [1, 0, 0, 0, 0, 1, 0, 0]


def test_a_composite_is_of_all_of_its_parts_or_of_nothing(spec: Spec) -> None:
    pair = spec.entities[2]
    assert pair.key == ("card", "merchant")
    assert pair.id_of({"card": "c", "merchant": "m", "device": "d"}) == "c\x1fm"
    assert pair.id_of({"card": "c"}) is None
    assert pair.id_of({}) is None
    assert pair.id_of({"card": "c1", "merchant": "1m"}) != pair.id_of(
        {"card": "c11", "merchant": "m"}
    )
    assert spec.entities[0].id_of({"card": "c"}) == "c"
    assert spec.entities[0].id_of({"merchant": "c"}) is None


def test_the_digest_is_of_keys_filters_places_and_categories_too(tmp_path: Path) -> None:
    digest = spec_of(RICH, tmp_path).digest
    for old, new in [
        ("key: [card, merchant]", "key: [merchant, card]"),
        ("channel: [ecom, moto]", "channel: [ecom]"),
        ("at_least: 100.00", "above: 100.00"),
        ("at_least: 100.00", "at_least: 100.01"),
        ("latitude: lat", "latitude: latitude"),
        ("mcc: 1024", "mcc: 1023"),
        ("is_new: true\n    changed", "is_new: false\n    changed"),
    ]:
        assert spec_of(RICH.replace(old, new, 1), tmp_path).digest != digest, new
    assert spec_of(RICH.replace("100.00", "100"), tmp_path).digest == digest


BAD: list[tuple[str, str, str]] = [
    ("key: [card, merchant]", "key: [card]", "features.yaml:39: entities.card_merchant.key: expec"),
    ("key: [card, merchant]", "key: card", "entities.card_merchant.key: expected a list"),
    ("key: [card, merchant]", "key: [card, card]", "key[1]: this part stands here twice"),
    ("key: [card, merchant]", "key: [card, merchnt]", "key[1]: expected one of: card, merchant (d"),
    ("key: [card, merchant]", "key: [card, card_merchant]", "key[1]: expected one of: card, merch"),
    ("refund: {primary: card}", "refund: {primary: card_merchant}", "refund.primary: expected one"),
    ("is_new: true", "is_new: sometimes", "entities.card.is_new: expected one of: false, true"),
    ("changed: [country", "changed: [Country", "changed[0]: expected the name of an entity or of"),
    ("changed: [country", "changed: [device", "changed: 'device' stands here twice"),
    ("changed: [country, device]", "changed: country", "changed: expected a list"),
    ("place: {latitude: lat, longitude: lon}\n", "", "card.distance: expected place, at the top"),
    ("place: {latitude: lat, ", "place: {", "place: expected the field 'latitude'"),
    ("longitude: lon", "longitude: lat", "place: expected two different attributes"),
    ("longitude: lon", "longitude: 5", "place.longitude: expected the name of an attribute"),
    ("large: {count", "larg: {count", "where.larg: unknown name; expected one of: abroad, ecom, l"),
    ("{count: [24h], last", "{fraud_count: [24h], last", "where.large.fraud_count: unknown name"),
    ("{count: [24h], last", "{count: [], last", "where.large.count: expected at least one window"),
    ("mcc: 1024", "mcc: 1", "categories.mcc: expected a whole number in [2, 1048576]; got '1'"),
    ("mcc: 1024", "mcc: many", "categories.mcc: expected a whole number"),
    ("mcc: 1024", "MCC: 1024", "categories.MCC: expected the name of an entity or of an attrib"),
    ("categories: {mcc: 1024, merchant: 65536}", "categories: {}", "categories: expected 1 to 32"),
    ("  - card.count_over_24h_where_large", "  - card.count_over_24h_where_larg", "did you mean c"),
    ("count: [1h, 24h]", "cuont: [1h, 24h]", "where (did you mean count?)"),
    ("count: [1h, 24h]", "count: [1h, 1500w]", "card.count[1]: expected a duration such as 10m, 2"),
    ("count: [1h, 24h]", "? [a]\n    : 1", "entities.card: expected a name before the colon"),
    ("    sum: [30d]\n    is_new: true\n    fraud_count: [30d]", "    is_new: true", "the longest"),
    ("      large: {count: [24h], last: [1h]}", "      large: {count: ["
     + ", ".join(f"{n}s" for n in range(1, 13)) + "], sum: ["
     + ", ".join(f"{n}m" for n in range(1, 13)) + "]}", "expected aggregates over 1 to 12"),
    ("changed: [country, device]", f"changed: [{', '.join(f'a{n}' for n in range(6))}]",
     "entities.card: expected at most 8 fields"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), BAD, ids=[row[1].strip() for row in BAD])
def test_an_error_names_file_line_field_and_expectation(
    old: str, new: str, expected: str, tmp_path: Path
) -> None:
    assert old in RICH
    with pytest.raises(SpecError) as caught:
        spec_of(RICH.replace(old, new, 1), tmp_path)
    assert str(caught.value).startswith("features.yaml:")
    assert expected in str(caught.value)


JUNK = [None, "", [], {}, 0, -1, 7, 1e300, True, "x", "1h", "card", [None], [[]], {"a": None},
        {"card": 1}, ["1h", "1h"], "2026-03-01", "*", "a" * 100]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_stands_somewhere_the_file_loads_or_is_refused_by_its_place(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = yaml.safe_load(RICH)
    place: Any = content
    while True:
        key = data.draw(st.sampled_from(range(len(place)) if type(place) is list else [*place]))
        deeper = isinstance(place[key], dict | list) and place[key]
        if not deeper or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(st.sampled_from(JUNK))
    text = yaml.safe_dump(content, sort_keys=False)
    try:
        spec = spec_of(text, tmp_path_factory.mktemp("junk"))
    except SpecError as error:
        assert re.match(
            r"features\.yaml:[1-9]\d*: [\w.\[\]]+: expected|.*(twice|unknown name)", str(error)
        )
    else:
        assert tuple(spec.features) == spec.feature_names


def test_filters_need_a_declaration_and_windows_have_a_limit(tmp_path: Path) -> None:
    begin, end = RICH.index("filters:"), RICH.index("place:")
    with pytest.raises(SpecError, match="expected filters, declared at the top of the file"):
        spec_of(RICH[:begin] + RICH[end:], tmp_path)
    three = ", ".join(f"{n}m" for n in range(1, 11))
    wide = RICH.replace("large: {count: [24h], last: [1h]}", f"large: {{count: [{three}]}}")
    wide = wide.replace("count: [10m]\n", f"count: [{three}]\n").replace(
        "count: [1h, 24h]", f"count: [{three}]"
    )
    with pytest.raises(SpecError, match="expected aggregates over 1 to 12 different windows"):
        spec_of(wide, tmp_path)
    fitting = wide.replace("[24h]", "[1m]").replace("[24h, 7d]", "[1m]").replace("[90d]", "[1m]")
    fitting = fitting.replace("merchant: [1h]", "merchant: [1m]").partition("calendar:")[0]
    with pytest.raises(SpecError, match="expected at most 24 windows, those of each filter"):
        spec_of(fitting, tmp_path)
