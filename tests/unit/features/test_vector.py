"""Vectors made online equal vectors recomputed from the log (SQL's are in test_oracle_events)."""

import math
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from features.event import Amount, Event
from features.spec import Spec
from features.update import updates_of_events
from features.vector import base_minor, derive_many, missing_of
from features.window import apply_many
from tests.oracle import EVENT, Oracle, Row
from tests.unit.features.specs import ROOT, SMALL, spec_of

AT = datetime(2026, 2, 28, 23, 30, tzinfo=UTC)  # a Saturday
NOT_SQL = ("ewma", "fraud_count", "label_count", "fraud_rate")
CONDITIONS = {"online": "channel = 'ecom'", "small": "a < 500"}


@pytest.fixture(scope="module")
def shipped() -> Spec:
    return Spec.load(ROOT / "features.yaml")


def an_event(number: int, at: datetime, cents: int = 1000, **entities: str) -> Event:
    return Event(
        event_type="card_payment",
        event_id=f"pay_{number}",
        event_time=at,
        entities={"card": "c"} | entities,
        amount=Amount(cents, "EUR"),
    )


def some_events(number: int, seed: int) -> list[Event]:
    """Payments of a few entities over 40 days, no two at the same millisecond."""
    draw = random.Random(seed)
    offsets = sorted(draw.sample(range(40 * 86_400_000), number))
    events = []
    for n, offset in enumerate(offsets):
        event = an_event(
            n,
            AT + timedelta(milliseconds=offset),
            draw.choice([draw.randint(100, 100_000), draw.randint(100, 700)]),
            card=f"c{draw.randint(0, 4)}",
            merchant=f"m{draw.randint(0, 6)}",
            device=f"d{draw.randint(0, 9)}",
            ip=f"i{draw.randint(0, 30)}",
        )
        told = {"channel": draw.choice(["ecom", "pos"]), "country": draw.choice(["FR", "DE"])}
        events.append(msgspec.structs.replace(event, attributes=told))
    return events


def derive_in_turn(spec: Spec, events: Sequence[Event]) -> np.ndarray:
    """Ask and apply event by event, as scorer and worker do."""
    states: dict[bytes, bytes] = defaultdict(bytes)
    rows = []
    for event in events:
        own = updates_of_events(spec, [event])
        names = [spec.entities[index].name for index in own.entity]
        held = {name: states[key] for name, key in zip(names, own.keys, strict=True)}
        derived = derive_many(spec, [event], [held])
        assert not derived.late_question.any()
        rows.append(derived.X[0])
        new = apply_many(spec, [states[key] for key in own.keys], np.arange(len(own)), own)
        states.update(zip(own.keys, new, strict=True))
    return np.array(rows)


def test_a_vector_made_online_equals_the_one_recomputed_from_the_log(shipped: Spec) -> None:
    events = some_events(300, seed=1)
    X = derive_in_turn(shipped, events)
    log: dict[bytes, list[Row]] = defaultdict(list)
    updates = updates_of_events(shipped, events)
    for i, key in enumerate(updates.keys):
        log[key].append(
            Row(EVENT, int(updates.time_ms[i]), int(updates.id[i]), 1, int(updates.value[i]),
                tuple(updates.fields[i].tolist()), int(updates.filters[i]))
        )  # fmt: skip
        entity = shipped.entities[updates.entity[i]]
        expected = Oracle(shipped, entity, log[key]).answers(
            int(updates.time_ms[i]), int(updates.id[i])
        )
        start = shipped.feature_names.index(entity.feature_names[0])
        got = X[updates.row_event[i], start : start + len(expected)]
        right = np.array([answer.value for answer in expected], dtype=np.float32)
        np.testing.assert_allclose(got, right, rtol=2**-23)


def test_the_batch_answers_as_one_by_one(shipped: Spec) -> None:
    events = some_events(50, seed=3)
    one_by_one = np.array([derive_many(shipped, [e], [{}]).X[0] for e in events])
    batch = derive_many(shipped, events, [{}] * len(events))
    np.testing.assert_array_equal(batch.X, one_by_one)
    assert batch.X.dtype == np.float32
    assert batch.X.shape == (50, shipped.n_features)


def test_rows_on_top_count_and_the_own_one_counts_once(shipped: Spec) -> None:
    first, second = an_event(1, AT), an_event(2, AT + timedelta(seconds=30))
    alone = derive_many(shipped, [second], [{}]).X[0]
    on_top = updates_of_events(shipped, [first, second])
    on_top.row_event[:] = 0
    with_burst = derive_many(shipped, [second], [{}], overlay=on_top).X[0]
    count = shipped.feature_names.index("card.count_over_10m")
    since = shipped.feature_names.index("card.since_last")
    assert (alone[count], with_burst[count]) == (1, 2)
    assert math.isnan(alone[since])
    assert with_burst[since] == 30
    held = apply_many(shipped, [b""], np.zeros(2, dtype=int), on_top)[0]
    none = updates_of_events(shipped, [])
    ahead = derive_many(shipped, [second], [{"card": held}], own=none).X[0]
    np.testing.assert_array_equal(ahead, with_burst)


def test_missing_is_named_and_is_not_zero(shipped: Spec) -> None:
    x = derive_many(shipped, [an_event(1, AT)], [{}]).X[0]
    missing = set(missing_of(shipped, x))
    assert {name for name in shipped.feature_names if name.startswith("ip.")} <= missing
    assert "card.since_last" in missing
    assert "card.deviation_of_amount_over_30d" in missing  # one payment deviates from nothing
    assert "card.fraud_count_over_30d" not in missing
    assert "event.amount" not in missing


def test_the_event_s_own_features(tmp_path_factory: pytest.TempPathFactory) -> None:
    spec = spec_of(SMALL, tmp_path_factory.mktemp("small"))
    paid = Event(
        event_type="card_payment", event_id="1", event_time=AT, entities={"card": "c"},
        amount=Amount(2000, "JPY"),
    )  # fmt: skip
    login = Event(
        event_type="login", event_id="2", event_time=AT + timedelta(hours=6.5),
        entities={"card": "c"},
    )  # fmt: skip
    X = derive_many(spec, [paid, login], [{}, {}]).X
    column = {name: X[:, i] for i, name in enumerate(spec.feature_names)}
    assert column["event.amount"][0] == 1220
    assert math.isnan(column["event.amount"][1])
    assert column["event.hour_sin"] == pytest.approx([math.sin(23.5 / 12 * math.pi), 1])
    assert column["event.weekday_cos"] == pytest.approx(np.cos(np.array([5, 6]) / 3.5 * math.pi))
    assert column["event.is_night"].tolist() == [0, 0]
    assert column["event.is_weekend"].tolist() == [1, 1]
    assert column["event.amount_per_card.mean_of_amount_over_1s"][0] == 1
    assert base_minor(spec, login) is None


def test_a_spec_without_calendar_or_terms_has_the_amount_alone(tmp_path: Path) -> None:
    spec = spec_of(SMALL[: SMALL.index("calendar:")], tmp_path)
    x = derive_many(spec, [an_event(1, AT, 500)], [{}]).X[0]
    assert spec.feature_names[-1] == "event.amount"
    assert x[-1] == 500


def test_an_old_question_is_flagged(shipped: Spec) -> None:
    held = apply_many(
        shipped, [b""], np.zeros(1, dtype=int), updates_of_events(shipped, [an_event(1, AT)])
    )[0]
    old = an_event(2, AT - timedelta(seconds=6))
    fresh = an_event(3, AT - timedelta(seconds=5))
    asked = derive_many(shipped, [old, fresh], [{"card": held}, {"card": held}])
    assert asked.late_question.tolist() == [True, False]
