"""One step for both doors: what it reads, applies on top, answers, and names."""

from pathlib import Path

import numpy as np
import pytest

from api.overlay_place import Place
from api.seen import Asked
from features.event import Event, entity_key, identity_of
from features.update import concat_updates, updates_of_events
from features.vector import derive_many
from features.window import apply_many
from models.decision import DecisionRecord, Source
from models.decision_codec import decode_record, decode_vector, encode_record
from tests.fakes_serving import NOW_MS, POLICY_TEXT, Stand, a_stand, an_event
from tests.oracle_forward import logit_of

HTTP = Source(door="http", topic="t.events.v1")


def streamed(offset: int, partition: int = 0) -> Source:
    return Source(door="stream", topic="t.events.v1", partition=partition, offset=offset)


def value(stand: Stand, record: DecisionRecord, feature: str) -> float:
    return float(decode_vector(record.vector)[stand.spec.feature_names.index(feature)])


async def decide(stand: Stand, *events: Event, source: Source = HTTP) -> list[DecisionRecord]:
    return await stand.decider.decide_many([Asked(event, source) for event in events], 5.0)


async def test_a_whole_decision_names_everything_it_rests_on(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    weights = stand.load(7)
    [record] = await decide(stand, an_event(), source=streamed(4))
    assert decode_record(encode_record(record)) == record
    assert record.weights is not None and record.model is not None and record.scored_by is not None
    assert (record.weights.version, record.weights.sha256) == (7, f"{7:064x}")
    assert (record.model.version, record.model.age_ms) == (7, 400)
    assert record.scored_by.bucket == 1
    assert record.policy.version == 3
    assert record.spec_digest == stand.spec.digest
    assert (record.features.staleness_ms, record.degraded) == (40, [])
    assert record.source == streamed(4)
    x = decode_vector(record.vector)
    missing = [n for n, v in zip(stand.spec.feature_names, x, strict=True) if np.isnan(v)]
    assert record.features.missing == missing
    expected = float(logit_of(weights, x[None, :])[0])
    assert record.score.logit == pytest.approx(expected, abs=1e-5)
    with stand.scorer.snapshot() as snapshot:
        again = snapshot.score_many(x[None, :], record.scored_by.bucket)
    assert float(again.logit[0]) == record.score.logit


async def test_stale_features_are_used_and_say_how_stale_they_are(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    stand.states.apply(updates_of_events(stand.spec, [an_event("p1")]), 0, 4)
    stand.states.fresh_until_ms = NOW_MS - 90_000  # its worker has been away for 90 s
    [known, new] = await decide(
        stand,
        an_event("p2", at_ms=NOW_MS + 1),
        an_event("p3", at_ms=NOW_MS + 1, card="never seen", merchant="never seen"),
        source=streamed(9),
    )
    for record in (known, new):  # staleness is of the partition, whatever it holds
        assert (record.features.staleness_ms, record.degraded) == (90_000, [])
    assert value(stand, known, "card.count_over_10m") == 2
    assert value(stand, new, "card.count_over_10m") == 1


async def test_states_of_a_whole_batch_are_read_in_one_round_trip(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    await decide(stand, *(an_event(f"p{i}", card=f"c{i}", merchant="m") for i in range(50)))
    assert stand.states.calls == 1


async def test_a_burst_in_one_batch_sees_itself(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    events = [an_event(f"p{i}", at_ms=NOW_MS + i, value=100) for i in range(5)]
    records = await decide(stand, *events)
    assert [value(stand, r, "card.count_over_10m") for r in records] == [1, 2, 3, 4, 5]
    assert [value(stand, r, "card.sum_of_amount_over_1h") for r in records] == [
        100,
        200,
        300,
        400,
        500,
    ]
    assert records[3].overlay == [identity_of(event) for event in events[:3]]


async def test_own_events_are_seen_until_the_overlay_ends(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    await decide(stand, an_event("p1"))
    stand.clock_ms[0] += 1_900
    [second] = await decide(stand, an_event("p2", at_ms=NOW_MS + 1))
    assert value(stand, second, "card.count_over_10m") == 2
    stand.clock_ms[0] += 200  # 2.1 s after the first, 0.2 s after the second
    [third] = await decide(stand, an_event("p3", at_ms=NOW_MS + 2))
    assert third.overlay == [identity_of(an_event("p2"))]


async def test_an_event_that_the_store_has_applied_is_not_applied_again(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    events = [an_event(f"p{i}", at_ms=NOW_MS + i) for i in range(300)]  # more than a head holds
    stand.states.apply(updates_of_events(stand.spec, events), 0, 300)
    [record] = await decide(stand, events[0], source=streamed(0))
    assert record.overlay == []
    state = stand.states.states[entity_key("default", "card", "c1")]
    merchant = stand.states.states[entity_key("default", "merchant", "m1")]
    none = updates_of_events(stand.spec, events).take([])
    expected = derive_many(
        stand.spec, [events[0]], [{"card": state, "merchant": merchant}], None, none
    )
    np.testing.assert_array_equal(decode_vector(record.vector), expected.X[0])
    [later] = await decide(stand, an_event("new", at_ms=NOW_MS + 300), source=streamed(300))
    assert later.overlay == []  # the log's copy of the first is in the state
    assert value(stand, later, "card.count_over_10m") == 301


async def test_the_overlay_learns_where_the_log_put_an_event(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    first = an_event("p1")
    await decide(stand, first)
    stand.overlay.place(identity_of(first), Place(0, 5))
    stand.states.apply(updates_of_events(stand.spec, [first]), 0, 5)
    [before] = await decide(stand, an_event("p2", at_ms=NOW_MS + 1))
    assert before.overlay == [identity_of(first)]  # offset 5 is not in yet
    stand.states.apply(updates_of_events(stand.spec, []), 0, 6)
    [after] = await decide(stand, an_event("p3", at_ms=NOW_MS + 2))
    assert after.overlay == [identity_of(an_event("p2"))]
    assert value(stand, after, "card.count_over_10m") == 3


async def test_a_vector_equals_its_recomputation_from_the_log_at_its_watermarks(
    tmp_path: Path,
) -> None:
    stand = a_stand(tmp_path)
    rng = np.random.default_rng(5)
    log = [
        an_event(
            f"p{i}",
            at_ms=NOW_MS + int(rng.integers(0, 2000)) + 400 * i,
            value=int(rng.integers(1, 9999)),
            card=f"c{rng.integers(6)}",
            merchant=f"m{rng.integers(4)}",
        )
        for i in range(400)
    ]
    records: list[DecisionRecord] = []
    applied = 0
    for begin in range(0, 400, 20):
        batch = [Asked(log[i], streamed(i)) for i in range(begin, begin + 20)]
        records += await stand.decider.decide_many(batch, 5.0)
        stand.clock_ms[0] += 300
        until = int(rng.integers(applied, min(400, begin + 40) + 1))  # behind, or ahead
        if until > applied:
            stand.states.apply(updates_of_events(stand.spec, log[applied:until]), 0, until)
            applied = until
    by_name = {identity_of(event): event for event in log}
    for record in records:
        expected = recomputed(stand, log, by_name, record)
        np.testing.assert_array_equal(decode_vector(record.vector), expected)


def recomputed(
    stand: Stand, log: list[Event], by_name: dict[str, Event], record: DecisionRecord
) -> np.ndarray:
    """The log up to each watermark, the overlay that is named, the event itself: nothing else."""
    [mark] = {applied.e[0] for applied in record.applied.values()}
    counted = {identity_of(event): event for event in log[: max(0, mark)]}
    counted |= {name: by_name[name] for name in record.overlay}
    counted[identity_of(record.event)] = record.event
    rows = concat_updates([updates_of_events(stand.spec, list(counted.values()))])
    states: dict[str, bytes] = {}
    for entity in stand.spec.entities:
        entity_id = entity.id_of(record.event.entities)
        assert entity_id is not None
        key = entity_key("default", entity.name, entity_id)
        mine = rows.take([i for i, row_key in enumerate(rows.keys) if row_key == key])
        [states[entity.name]] = apply_many(stand.spec, [b""], np.zeros(len(mine), np.int32), mine)
    none = rows.take([])
    return derive_many(stand.spec, [record.event], [states], None, none).X[0]


async def test_without_the_store_the_policy_decides_on_the_amount(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    stand.states.away = True
    large, small = await decide(stand, an_event("p1", value=10_000), an_event("p2", value=9_999))
    assert (large.outcome, small.outcome) == ("review", "approve")
    assert large.degraded == ["features"]
    assert large.score.risk_level == "not_assessed"
    assert large.applied == {} and large.overlay == []
    assert large.features.as_of is None and large.features.staleness_ms is None
    x = decode_vector(large.vector)
    for name, number in zip(stand.spec.feature_names, x, strict=True):
        assert np.isnan(number) == (not name.startswith("event."))
    assert "nobody listens" in stand.decider.read_failure


async def test_a_store_that_is_slow_counts_as_absent(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.states.stuck = True
    [record] = await stand.decider.decide_many([Asked(an_event(), HTTP)], 0.001)
    assert record.degraded == ["features", "model"]


async def test_a_damaged_state_degrades_and_does_not_break_the_answer(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    stand.states.states[entity_key("default", "card", "c1")] = b"\x01rubbish that no kernel wrote"
    [record] = await decide(stand, an_event())
    assert record.degraded == ["features"]
    assert stand.decider.read_failure


async def test_without_weights_the_policy_decides_and_the_vector_is_whole(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    [record] = await decide(stand, an_event(value=10_000))
    assert record.degraded == ["model"]
    assert (record.outcome, record.model, record.weights, record.scored_by) == (
        "review",
        None,
        None,
        None,
    )
    assert (record.score.value, record.score.risk_level) == (None, "not_assessed")
    assert value(stand, record, "card.count_over_10m") == 1


async def test_what_is_not_approved_is_explained(tmp_path: Path) -> None:
    stand = a_stand(tmp_path, POLICY_TEXT.replace("probability: 0.5", "probability: 0.0"))
    stand.load(1)
    [record] = await decide(stand, an_event())
    assert record.outcome in ("review", "decline")
    assert 3 <= len(record.reasons) <= 5
    sizes = [abs(reason.contribution) for reason in record.reasons]
    assert sizes == sorted(sizes, reverse=True)
    for reason in record.reasons:
        assert reason.value == value(stand, record, reason.feature)
        assert reason.code.endswith(
            "above_usual" if (reason.value or 0) > reason.baseline else "below_usual"
        )


async def test_an_approval_carries_no_reasons_unless_the_policy_asks(tmp_path: Path) -> None:
    never = POLICY_TEXT.replace("probability: 0.5", "probability: 1.0").replace("0.8", "1.0")
    stand = a_stand(tmp_path, never)
    stand.load(1)
    [record] = await decide(stand, an_event())
    assert (record.outcome, record.reasons) == ("approve", [])
    talkative = a_stand(tmp_path, never + "reasons: {approved_too: true}\n")
    talkative.load(1)
    [record] = await decide(talkative, an_event())
    assert record.outcome == "approve" and record.reasons


async def test_rehearsal_leaves_nothing_behind(tmp_path: Path) -> None:
    stand = a_stand(tmp_path)
    stand.decider.rehearse([Asked(an_event("warm"), HTTP)])
    [record] = await decide(stand, an_event("p1"))
    assert record.overlay == []
    assert value(stand, record, "card.count_over_10m") == 1
