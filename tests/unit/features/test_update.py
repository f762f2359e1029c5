"""Events and label transitions as rows, and money as exact integers."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.event import AMOUNT_MAX_MINOR, Amount, Event, identity_hash, identity_of
from features.spec import FieldSpec, Spec
from features.spec_levels import BASE_VALUE_MAX
from features.update import (
    SERIES_EVENT,
    SERIES_LABEL,
    LabelTransition,
    base_value,
    category_index,
    concat_updates,
    distinct_hash,
    field_value,
    updates_of_events,
    updates_of_transitions,
)
from tests.unit.features.specs import ROOT, SMALL, spec_of
from tests.unit.features.specs_rich import RICH

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT_MS = 1_772_366_400_000


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return spec_of(SMALL, tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return spec_of(RICH, tmp_path_factory.mktemp("rich"))


@pytest.fixture(scope="module")
def shipped() -> Spec:
    return Spec.load(ROOT / "features.yaml")


def an_event(event_id: str = "e1", **changes: object) -> Event:
    fields: dict[str, object] = {
        "event_type": "card_payment",
        "event_time": AT,
        "entities": {"card": "c", "merchant": "m", "shop": "s"},
        "amount": Amount(1000, "USD"),
        "attributes": {"country": "FR"},
    }
    return Event(event_id=event_id, **(fields | changes))  # type: ignore[arg-type]


def a_transition(label: Literal["fraud", "legit"], sign: Literal[1, -1]) -> LabelTransition:
    return LabelTransition(
        event_type="card_payment",
        event_id="e1",
        entities={"card": "c", "shop": "s"},
        label_time=AT,
        label=label,
        sign=sign,
        seq=1,
        transition_id="e1/1",
    )


def test_an_event_is_one_row_for_each_entity_that_the_spec_declares(spec: Spec) -> None:
    bare = an_event("e2", entities={"merchant": "m"}, amount=None, attributes={})
    updates = updates_of_events(spec, [an_event(), bare])
    assert updates.keys == [
        b"default\x1fcard\x1fc",
        b"default\x1fmerchant\x1fm",
        b"default\x1fmerchant\x1fm",
    ]
    assert updates.entity.tolist() == [0, 1, 1]
    assert updates.series.tolist() == [SERIES_EVENT] * 3
    assert updates.time_ms.tolist() == [AT_MS] * 3
    assert updates.count.tolist() == [1, 1, 1]
    assert updates.value.tolist() == [922, 922, 0]  # 921.5, half to even
    assert updates.row_event.tolist() == [0, 0, 1]
    assert updates.id[0] == updates.id[1] == identity_hash(identity_of(an_event()))
    assert updates.fields.tolist() == [[distinct_hash("m"), distinct_hash("FR")], [0, 0], [0, 0]]


def test_a_transition_adds_or_takes_away_one_label(spec: Spec) -> None:
    updates = updates_of_transitions(
        spec, [a_transition("fraud", 1), a_transition("fraud", -1), a_transition("legit", 1)]
    )
    assert updates.keys == [b"default\x1fcard\x1fc"] * 3
    assert updates.series.tolist() == [SERIES_LABEL] * 3
    assert updates.count.tolist() == [1, -1, 1]
    assert updates.value.tolist() == [1, -1, 0]
    assert updates.id.tolist() == [identity_hash("e1/1")] * 3


def test_a_pair_has_a_row_of_its_own_and_none_without_both_parts(rich: Spec) -> None:
    alone = an_event("e2", entities={"card": "c"})
    updates = updates_of_events(rich, [an_event(), alone])
    assert updates.keys == [
        b"default\x1fcard\x1fc",
        b"default\x1fmerchant\x1fm",
        b"default\x1fcard_merchant\x1fc\x1fm",
        b"default\x1fcard\x1fc",
    ]
    assert updates.entity.tolist() == [0, 1, 2, 0]
    assert updates.row_event.tolist() == [0, 0, 0, 1]
    assert updates.fields[2].tolist() == [0] * rich.max_fields


def test_a_label_counts_for_the_pair_and_meets_no_filter(rich: Spec) -> None:
    both = a_transition("fraud", 1)
    pair = msgspec.structs.replace(both, entities={"merchant": "m", "card": "c"})
    updates = updates_of_transitions(rich, [both, pair])
    assert updates.keys[1:] == [
        b"default\x1fcard\x1fc",
        b"default\x1fmerchant\x1fm",
        b"default\x1fcard_merchant\x1fc\x1fm",
    ]
    assert updates.filters.tolist() == [0, 0, 0, 0]
    assert updates.value.tolist() == [1, 1, 1, 1]


def test_all_rows_of_an_event_say_which_filters_it_meets(rich: Spec) -> None:
    large = an_event(amount=Amount(20_000, "USD"), attributes={"channel": "moto", "country": "FR"})
    abroad = an_event("e2", attributes={"country": "DE"})
    updates = updates_of_events(rich, [large, abroad])
    assert updates.filters.tolist() == [0b011] * 3 + [0b100] * 3
    assert updates.filters.dtype == np.uint8


PLACES: list[tuple[object, int, int]] = [
    (0, 180_000_001, 180_000_001),
    (48.8566, 228_856_601, 228_856_601),
    (-90, 90_000_001, 90_000_001),
    (90.0, 270_000_001, 270_000_001),
    (90.000001, 0, 270_000_002),
    (-180, 0, 1),
    (180, 0, 360_000_001),
    (180.5, 0, 0),
    (float("nan"), 0, 0),
    (float("inf"), 0, 0),
    ("48.8566", 0, 0),
    (True, 0, 0),
    (None, 0, 0),
]


@pytest.mark.parametrize(("value", "latitude", "longitude"), PLACES)
def test_a_place_is_kept_in_millionths_of_a_degree_and_nonsense_is_absent(
    value: object, latitude: int, longitude: int
) -> None:
    event = an_event(attributes={"lat": value, "lon": value})
    assert field_value(event, FieldSpec("lat", "latitude")) == latitude
    assert field_value(event, FieldSpec("lon", "longitude")) == longitude
    assert field_value(event, FieldSpec("absent", "longitude")) == 0


def test_a_field_is_of_an_entity_or_else_of_an_attribute(rich: Spec) -> None:
    event = an_event(attributes={"country": "FR", "merchant": "other", "lat": 1.5, "lon": 2.5})
    assert updates_of_events(rich, [event]).fields[0].tolist() == [
        distinct_hash("m"),
        distinct_hash("FR"),
        0,
        181_500_001,
        182_500_001,
    ]


@given(st.integers(2, 2**20), st.one_of(st.text(max_size=5), st.integers(), st.booleans()))
def test_a_category_is_an_index_and_0_means_absent(size: int, value: object) -> None:
    index = category_index(an_event(attributes={"mcc": value}), "mcc", size)
    assert 1 <= index < size
    assert index == category_index(an_event("e2", attributes={"mcc": str(value)}), "mcc", size)
    assert category_index(an_event(attributes={"mcc": None}), "mcc", size) == 0
    assert category_index(an_event(attributes={}), "mcc", size) == 0


def test_categories_spread_over_their_indices() -> None:
    found = [category_index(an_event(attributes={"mcc": n}), "mcc", 64) for n in range(6_300)]
    counts = np.bincount(found, minlength=64)
    assert counts[0] == 0
    assert ((counts[1:] - 100) ** 2 / 100).sum() < 120  # chi-squared of 62: below 1 in 10 000


def test_nothing_gives_no_rows(spec: Spec) -> None:
    updates = updates_of_events(spec, [])
    assert len(updates) == 0
    assert updates.fields.shape == (0, spec.max_fields)
    assert updates.time_ms.dtype == np.int64


def test_rows_can_be_taken_and_joined(spec: Spec) -> None:
    updates = updates_of_events(spec, [an_event(f"e{n}") for n in range(5)])
    even, odd = updates.take(range(0, 10, 2)), updates.take(np.arange(1, 10, 2))
    joined = concat_updates([even, odd])
    back = joined.take(np.argsort([*range(0, 10, 2), *range(1, 10, 2)]))
    assert back.keys == updates.keys
    for name in (
        "entity",
        "series",
        "time_ms",
        "id",
        "count",
        "value",
        "fields",
        "filters",
        "row_event",
    ):
        assert np.array_equal(getattr(back, name), getattr(updates, name))
        assert getattr(back, name).dtype == getattr(updates, name).dtype


def test_an_attribute_and_its_text_are_the_same_value_and_absent_is_neither() -> None:
    assert distinct_hash("5") == distinct_hash(5)
    assert distinct_hash("") != 0


@settings(deadline=None)
@given(st.integers(-AMOUNT_MAX_MINOR, AMOUNT_MAX_MINOR), st.sampled_from(["EUR", "USD", "JPY"]))
def test_money_is_converted_as_decimal_arithmetic_does(
    shipped: Spec, value: int, code: str
) -> None:
    factor = {"EUR": Decimal(1), "USD": Decimal("0.92"), "JPY": Decimal("0.61")}[code]
    exact = (value * factor).quantize(Decimal(1), rounding=ROUND_HALF_EVEN)
    got = base_value(value, shipped.currencies[code])
    assert got == int(exact)
    assert abs(got) <= BASE_VALUE_MAX
