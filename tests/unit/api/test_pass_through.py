"""A few events that a score would stop are let through, alike at every door, and said to be."""

from pathlib import Path

import pytest

from api.metrics import ServeMetrics
from api.seen import Asked
from models.decision import DecisionRecord, Source
from models.decision_codec import answer_of, decode_record, encode_record
from tests.fakes_serving import POLICY_TEXT, Stand, a_stand, an_event

STOPPING = POLICY_TEXT.replace("probability: 0.8", "probability: 0.0")
PASSING = STOPPING + "pass_through: {share: 0.2, outcomes: [decline]}\n"
EVENTS = [an_event(f"p{i}") for i in range(60)]


async def decided(stand: Stand, door: Source) -> list[DecisionRecord]:
    return await stand.decider.decide_many([Asked(event, door) for event in EVENTS], 5.0)


def fate(records: list[DecisionRecord]) -> list[tuple[str, float, bool, str | None]]:
    return [(r.outcome, r.propensity, r.passed_through, r.would_be) for r in records]


async def test_both_doors_let_the_same_events_through(tmp_path: Path) -> None:
    stand = a_stand(tmp_path, PASSING)
    stand.load(1)
    http = await decided(stand, Source(door="http"))
    stream = await decided(stand, Source(door="stream", topic="t", partition=0, offset=1))
    assert fate(http) == fate(stream)
    assert set(fate(http)) == {
        ("decline", 0.8, False, None),
        ("approve", 0.2, True, "decline"),
    }


async def test_a_passed_event_still_has_its_reasons_and_says_so_in_answer_and_record(
    tmp_path: Path,
) -> None:
    stand = a_stand(tmp_path, PASSING)
    stand.load(1)
    [*_, passed] = [r for r in await decided(stand, Source(door="http")) if r.passed_through]
    assert passed.reasons
    assert decode_record(encode_record(passed)) == passed
    answer = answer_of(passed)
    assert (answer.outcome, answer.would_be, answer.propensity) == ("approve", "decline", 0.2)


@pytest.mark.parametrize("missing", ["features", "model"])
async def test_without_a_score_nothing_is_let_through(tmp_path: Path, missing: str) -> None:
    text = PASSING.replace(
        "{outcome: review, amount_at_least: 10000}", "{outcome: decline, amount_at_least: 0}"
    )
    stand = a_stand(tmp_path, text)
    if missing == "features":
        stand.load(1)
        stand.states.away = True
    assert set(fate(await decided(stand, Source(door="http")))) == {("decline", 1.0, False, None)}


async def test_without_the_rule_all_are_stopped(tmp_path: Path) -> None:
    stand = a_stand(tmp_path, STOPPING)
    stand.load(1)
    assert set(fate(await decided(stand, Source(door="http")))) == {("decline", 1.0, False, None)}


async def test_passed_events_are_counted_by_the_outcome_they_would_have_had(
    tmp_path: Path,
) -> None:
    stand = a_stand(tmp_path, PASSING)
    stand.load(1)
    records = await decided(stand, Source(door="http"))
    metrics = ServeMetrics()
    metrics.observe_batch(records, "http", 0.01)
    counted = metrics.registry.get_sample_value(
        "riskbeat_passed_through_decisions_total", {"would_be": "decline"}
    )
    assert counted == sum(record.passed_through for record in records) > 0
