"""What a reader sees of an entity as time goes by: never seen, seen, seen long ago; and whose state
it can read at all. The store's own expiry plays no part in it: the bytes here are always there."""

import math
from pathlib import Path

import numpy as np
import pytest

from features.event import Amount, Event, from_ms
from features.spec import Spec
from features.update import LabelTransition, updates_of_events, updates_of_transitions
from features.window import SchemaMismatch, apply_many, evaluate_many
from tests.unit.features.specs import spec_of

SEEN_MS = 1_700_000_000_000
SECOND_MS = 1_000
TEXT = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1"}}
event_types: {card_payment: {primary: card}}
limits: {head_events: 4, reorder: 1s, dedup_horizon: 1s}
entities:
  card:
    count: [1s, 10s]
    sum: [10s]
    mean: [10s]
    std: [10s]
    min: [10s]
    max: [10s]
    distinct: {merchant: [10s]}
    since_last: true
    fraud_count: [20s]
    label_count: [20s]
    fraud_rate: [20s]
"""


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return spec_of(TEXT, tmp_path)


def state_of(spec: Spec) -> bytes:
    """A card with one payment of 5.00 that turned out to be fraud at once."""
    event = Event(
        event_type="card_payment",
        event_id="p1",
        event_time=from_ms(SEEN_MS),
        entities={"card": "c1", "merchant": "m1"},
        amount=Amount(500, "EUR"),
    )
    label = LabelTransition(
        event_type="card_payment",
        event_id="p1",
        entities={"card": "c1"},
        label_time=from_ms(SEEN_MS),
        label="fraud",
        sign=1,
        seq=1,
        transition_id="t1",
    )
    slot = np.zeros(1, np.int32)
    card = updates_of_events(spec, [event])
    card = card.take(np.flatnonzero(card.entity == spec.entities[0].index))
    (blob,) = apply_many(spec, [b""], slot, card)
    return apply_many(spec, [blob], slot, updates_of_transitions(spec, [label]))[0]


def seen_at(spec: Spec, blob: bytes, at_ms: int) -> dict[str, float]:
    X, _ = evaluate_many(spec, 0, [blob], np.array([at_ms]), np.zeros(1, np.uint64))
    names = [feature.name for feature in spec.entities[0].features]
    return dict(zip(names, X[0].tolist(), strict=True))


def test_an_entity_never_seen_counts_zero_and_has_no_other_value(spec: Spec) -> None:
    for name, value in seen_at(spec, b"", SEEN_MS).items():
        if ".count" in name or "_count" in name or ".distinct" in name:
            assert value == 0, name
        elif "sum" not in name:
            assert math.isnan(value), name


@pytest.mark.parametrize(
    ("feature", "window_ms", "inside"),
    [
        ("card.count_over_1s", 1 * SECOND_MS, 1),
        ("card.count_over_10s", 10 * SECOND_MS, 1),
        ("card.sum_of_amount_over_10s", 10 * SECOND_MS, 500),
        ("card.mean_of_amount_over_10s", 10 * SECOND_MS, 500),
        ("card.min_of_amount_over_10s", 10 * SECOND_MS, 500),
        ("card.max_of_amount_over_10s", 10 * SECOND_MS, 500),
        ("card.distinct_merchant_over_10s", 10 * SECOND_MS, 1),
        ("card.fraud_count_over_20s", 20 * SECOND_MS, 1),
        ("card.label_count_over_20s", 20 * SECOND_MS, 1),
        ("card.fraud_rate_over_20s", 20 * SECOND_MS, 1),
    ],
)
def test_what_was_seen_ends_with_its_window_to_the_millisecond(
    spec: Spec, feature: str, window_ms: int, inside: float
) -> None:
    blob, never = state_of(spec), seen_at(spec, b"", SEEN_MS)[feature]
    assert seen_at(spec, blob, SEEN_MS)[feature] == inside
    assert seen_at(spec, blob, SEEN_MS + window_ms - 1)[feature] == inside
    for at_ms in (SEEN_MS - 1, SEEN_MS + window_ms, SEEN_MS + 365 * 86_400 * SECOND_MS):
        assert seen_at(spec, blob, at_ms)[feature] == pytest.approx(never, nan_ok=True)


def test_one_payment_has_a_mean_and_no_spread(spec: Spec) -> None:
    seen = seen_at(spec, state_of(spec), SEEN_MS + 1)
    assert seen["card.mean_of_amount_over_10s"] == 500
    assert (
        math.isnan(seen["card.std_of_amount_over_10s"]) or not seen["card.std_of_amount_over_10s"]
    )


@pytest.mark.parametrize(
    ("change", "by"),
    [
        ("count: [1s, 10s]", "count: [1s, 11s]"),
        ("count: [1s, 10s]", "count: [1s, 5s, 10s]"),
        ("min: [10s]", "min: [1s]"),
        ("merchant: [10s]", "device: [10s]"),
        ('EUR: "1"', 'EUR: "1", USD: "0.9"'),
        ('rates_version: "1"', 'rates_version: "2"'),
        ("head_events: 4", "head_events: 8"),
        ("dedup_horizon: 1s", "dedup_horizon: 2s"),
        ("entities:\n", "entities:\n  merchant: {count: [1s]}\n"),
    ],
)
def test_a_changed_spec_never_reads_an_old_state(
    spec: Spec, tmp_path: Path, change: str, by: str
) -> None:
    assert change in TEXT
    changed, blob = spec_of(TEXT.replace(change, by), tmp_path), state_of(spec)
    card = next(entity.index for entity in changed.entities if entity.name == "card")
    with pytest.raises(SchemaMismatch):
        evaluate_many(changed, card, [blob], np.array([SEEN_MS]), np.zeros(1, np.uint64))
