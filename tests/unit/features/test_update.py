"""Events and label transitions as rows, and money as exact integers."""

from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.event import AMOUNT_MAX_MINOR, Amount, Event, identity_hash, identity_of
from features.spec import Spec
from features.spec_levels import BASE_VALUE_MAX
from features.update import (
    SERIES_EVENT,
    SERIES_LABEL,
    LabelTransition,
    base_value,
    concat_updates,
    distinct_hash,
    updates_of_events,
    updates_of_transitions,
)
from tests.unit.features.specs import ROOT, SMALL, spec_of

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
AT_MS = 1_772_366_400_000


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return spec_of(SMALL, tmp_path_factory.mktemp("small"))


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
