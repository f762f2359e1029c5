"""What a reader is told, against sums over the events themselves and against the scored vector."""

import asyncio
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.entity_features import EntityFeatures, FeatureQuestion, QuestionRejected
from features.event import Event, from_ms
from features.read import check_question, feature_names_of, read_features
from features.spec import Spec
from features.update import updates_of_events
from features.vector import derive_many
from tests.fakes_serving import NOW_MS, MemoryStates, a_spec, an_event

MINUTE_MS = 60_000
TEXT = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1", USD: "0.5"}}
event_types:
  card_payment: {primary: card}
entities:
  card:
    count: [10m, 1h]
    sum: [1h]
    mean: [10m]
    since_last: true
    distinct: {merchant: [1h]}
    fraud_count: [1h]
  merchant:
    count: [10m]
ratios:
  - event.amount / card.sum_of_amount_over_1h
  - card.count_over_10m / card.count_over_1h
  - card.fraud_count_over_1h / card.count_over_10m
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    return a_spec(tmp_path_factory.mktemp("spec"), TEXT)


def ask(
    states: MemoryStates, *questions: FeatureQuestion, now_ms: int = NOW_MS, explain: bool = False
) -> list[EntityFeatures]:
    asked = [check_question(states.spec, question, now_ms) for question in questions]
    return asyncio.run(read_features(states.spec, states, asked, now_ms, explain=explain))


def a_store(spec: Spec, *events: Event) -> MemoryStates:
    states = MemoryStates(spec)
    if events:
        states.apply(updates_of_events(spec, events), 0, len(events))
    return states


def card(name: str = "c1", at_ms: int | None = None) -> FeatureQuestion:
    return FeatureQuestion(entity="card", id=name, at=None if at_ms is None else from_ms(at_ms))


# no two are further apart than the longest window, beyond which a state may forget
moments = st.lists(st.integers(20 * MINUTE_MS, 78 * MINUTE_MS), min_size=1, max_size=12)


@settings(deadline=None)
@given(ages=moments, asked_ago=st.integers(0, 95 * MINUTE_MS))
def test_windows_are_evaluated_at_the_instant_asked(
    spec: Spec, ages: list[int], asked_ago: int
) -> None:
    events = [
        an_event(f"e{i}", at_ms=NOW_MS - age, value=100 + i, card="c1", merchant=f"m{i % 3}")
        for i, age in enumerate(ages)
    ]
    at = NOW_MS - asked_ago

    def within(window_ms: int) -> list[Event]:
        return [e for e in events if at - window_ms < e.event_time_ms <= at]

    [answer] = ask(a_store(spec, *events), card(at_ms=at))
    recent, hour = within(10 * MINUTE_MS), within(60 * MINUTE_MS)
    before = [at - e.event_time_ms for e in events if e.event_time_ms <= at]
    amounts = [e.amount.value for e in recent if e.amount is not None]
    assert answer.features == {
        "card.count_over_10m": len(recent),
        "card.count_over_1h": len(hour),
        "card.sum_of_amount_over_1h": sum(e.amount.value for e in hour if e.amount is not None),
        "card.mean_of_amount_over_10m": sum(amounts) / len(amounts) if amounts else None,
        "card.since_last": min(before) / 1000 if before else None,
        "card.distinct_merchant_over_1h": len({e.entities["merchant"] for e in hour}),
        "card.fraud_count_over_1h": 0,
        "card.count_over_10m_per_card.count_over_1h": len(recent) / len(hour) if hour else None,
        "card.fraud_count_over_1h_per_card.count_over_10m": 0 if recent else None,
    }
    assert answer.missing == [name for name, value in answer.features.items() if value is None]
    assert answer.newest_event_at == from_ms(max(e.event_time_ms for e in events))
    newest = max(e.event_time_ms for e in events)
    assert answer.late_question is (at < newest - spec.reorder_ms)


@settings(deadline=None)
@given(ages=moments)
def test_a_reader_and_a_decision_see_the_same_numbers(spec: Spec, ages: list[int]) -> None:
    events = [an_event(f"e{i}", at_ms=NOW_MS - age, value=7 * i) for i, age in enumerate(ages)]
    last = max(events, key=lambda event: event.event_time_ms)
    blobs = a_store(spec, *(e for e in events if e is not last)).states
    of = dict(zip(("card", "merchant"), updates_of_events(spec, [last]).keys, strict=True))
    derived = derive_many(spec, [last], [{name: blobs.get(k, b"") for name, k in of.items()}])
    x = dict(zip(spec.feature_names, derived.X[0], strict=True))
    at = last.event_time
    answers = ask(
        a_store(spec, *events),
        FeatureQuestion(entity="card", id="c1", at=at),
        FeatureQuestion(entity="merchant", id="m1", at=at),
    )
    for entity, answer in zip(spec.entities, answers, strict=True):
        for name in feature_names_of(spec, entity):
            if name == "card.since_last":  # a decision leaves itself out; a reader is no event
                continue
            read = np.float32(np.nan if answer.features[name] is None else answer.features[name])
            np.testing.assert_equal(read, x[name])


def test_missing_zero_and_stale_are_told_apart(spec: Spec) -> None:
    states = a_store(spec, an_event("e1", at_ms=NOW_MS - 20 * MINUTE_MS))
    [known, unknown] = ask(states, card("c1"), card("nobody"))
    assert (known.state, unknown.state) == ("known", "unknown")
    assert known.features["card.count_over_10m"] == 0
    assert known.features["card.mean_of_amount_over_10m"] is None
    assert "card.mean_of_amount_over_10m" in known.missing
    assert "card.count_over_10m" not in known.missing
    assert known.features["card.since_last"] == 20 * 60
    assert unknown.features["card.count_over_1h"] == 0
    assert unknown.features["card.since_last"] is None
    assert unknown.newest_event_at is None
    assert (known.staleness_ms, known.stale) == (40, False)
    assert known.fresh_until == from_ms(NOW_MS - 40)
    states.fresh_until_ms = NOW_MS - 5_001
    [old] = ask(states, card("c1"))
    assert (old.staleness_ms, old.stale) == (5_001, True)
    assert old.features == known.features


def test_a_part_of_the_store_that_nobody_wrote_is_stale_and_of_no_age(spec: Spec) -> None:
    states = MemoryStates(spec)
    states.fresh_until_ms = 0
    [answer] = ask(states, card("c1"))
    assert (answer.fresh_until, answer.staleness_ms, answer.stale) == (None, None, True)
    assert answer.state == "unknown"


def test_one_round_trip_answers_many_each_at_its_own_instant(spec: Spec) -> None:
    states = a_store(spec, *(an_event(f"e{i}", at_ms=NOW_MS - i * MINUTE_MS) for i in range(30)))
    ago = [0, 5, 12, 12]
    answers = ask(states, *(card(at_ms=NOW_MS - m * MINUTE_MS) for m in ago))
    assert states.calls == 1
    assert [a.features["card.count_over_1h"] for a in answers] == [30 - m for m in ago]
    assert [a.late_question for a in answers] == [False, True, True, True]


def test_tenants_do_not_see_each_other(spec: Spec) -> None:
    states = a_store(spec, an_event("e1"))
    other = FeatureQuestion(entity="card", id="c1", tenant="other")
    assert ask(states, other)[0].state == "unknown"


@pytest.mark.parametrize(
    ("question", "code", "pointer"),
    [
        (FeatureQuestion(entity="iban", id="x"), "unknown_entity", "/entity"),
        (FeatureQuestion(entity="card", id=["a", "b"]), "wrong_key", "/id"),
        (card(at_ms=-1), "time_out_of_range", "/at"),
        (card(at_ms=NOW_MS + 60_001), "time_in_future", "/at"),
    ],
)
def test_what_cannot_be_answered_is_named(
    spec: Spec, question: FeatureQuestion, code: str, pointer: str
) -> None:
    with pytest.raises(QuestionRejected) as refused:
        check_question(spec, question, NOW_MS)
    assert (refused.value.code, refused.value.pointer) == (code, pointer)


def test_an_instant_just_ahead_is_answered(spec: Spec) -> None:
    states = a_store(spec, an_event("e1"))
    ahead = from_ms(NOW_MS) + timedelta(seconds=60)
    [answer] = ask(states, FeatureQuestion(entity="card", id="c1", at=ahead))
    assert answer.features["card.since_last"] == 60


def test_the_whole_composite_key_names_the_state(tmp_path: Path) -> None:
    text = TEXT.replace(
        "entities:\n", "entities:\n  pair:\n    key: [card, merchant]\n    count: [1h]\n"
    )
    spec = a_spec(tmp_path, text)
    events = [an_event(f"e{i}", card="c1", merchant=m) for i, m in enumerate("aab")]
    states = a_store(spec, *events)
    ids = [["c1", "a"], ["c1", "b"], ["a", "c1"]]
    answers = ask(states, *(FeatureQuestion(entity="pair", id=pair) for pair in ids))
    assert [a.features["pair.count_over_1h"] for a in answers] == [2, 1, 0]
    assert [a.id for a in answers] == ids
    with pytest.raises(QuestionRejected, match=r"the key card \+ merchant; got 1 ids"):
        ask(states, FeatureQuestion(entity="pair", id="c1"))


def test_an_explained_answer_says_what_each_value_means(spec: Spec) -> None:
    [plain] = ask(a_store(spec), card("c1"))
    [answer] = ask(a_store(spec), card("c1"), explain=True)
    assert plain.notes is None
    assert answer.notes is not None
    assert list(answer.notes) == list(answer.features)
    for name, note in answer.notes.items():
        assert note.bound == spec.feature_bounds[name]
        assert note.unit == spec.feature_units[name]
        assert note.text
