"""A question is answered once, whoever repeats it, and nothing is answered that is not kept."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from api.answer import Question
from api.claims import Claim, body_hash_of
from api.errors import IdempotencyConflict, InProgress, NotRecorded
from features.event import Event, decision_id, identity_of
from models.decision import Decision
from models.decision_codec import decode_record
from tests.fakes_serving import Stand, a_stand, an_event


def asking(event: Event, key: str | None = None) -> Question:
    body_hash = body_hash_of(event)
    key_claim = None if key is None else Claim(f"key:{key}", body_hash)
    claim = Claim(decision_id(identity_of(event)), body_hash)
    return Question(event, msgspec.json.encode(event), claim, key_claim)


async def a_ready_stand(folder: Path) -> Stand:
    stand = a_stand(folder)
    stand.load(1)
    await stand.publisher.try_log()
    return stand


def read(answer: bytes | Exception) -> Decision:
    assert isinstance(answer, bytes), answer
    return msgspec.json.decode(answer, type=Decision)


async def test_an_answer_leaves_once_event_and_decision_are_in_the_log(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    [answer] = await stand.answerer.answer_many([asking(an_event())])
    [event] = stand.log.of("t.events.v1")
    [record] = stand.log.of("t.decisions.v1")
    assert event.headers == (("riskbeat-decided", b"http"),)
    assert event.key == b"default\x1fcard\x1fc1"
    decision = decode_record(record.value)
    assert record.key == decision.decision_id.encode()
    assert read(answer).decision_id == decision.decision_id
    assert read(answer).outcome == decision.outcome


async def test_a_repeat_gets_the_first_answer_and_records_nothing(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    [first] = await stand.answerer.answer_many([asking(an_event())])
    stand.load(2)
    [again] = await stand.answerer.answer_many([asking(an_event())])
    assert read(again) == msgspec.structs.replace(read(first), status="duplicate")
    assert len(stand.log.records) == 2
    assert stand.repeats == ["duplicate"]


async def test_a_repeat_within_one_batch_is_one_too(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    other = asking(an_event(value=5))
    answers = await stand.answerer.answer_many([asking(an_event()), asking(an_event()), other])
    assert [read(a).status for a in answers[:2]] == ["new", "duplicate"]
    assert isinstance(answers[2], IdempotencyConflict)
    assert len(stand.log.records) == 2


async def test_the_same_event_with_another_body_is_refused(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    await stand.answerer.answer_many([asking(an_event())])
    fresh = asking(an_event("p2"))
    answers = await stand.answerer.answer_many([asking(an_event(value=5)), fresh])
    assert isinstance(answers[0], IdempotencyConflict)
    assert read(answers[1]).event_id == "p2"
    assert stand.repeats == ["conflict"]


async def test_a_key_used_for_another_body_is_refused_and_blocks_nothing(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    [first] = await stand.answerer.answer_many([asking(an_event("p1"), "k")])
    assert read(first).status == "new"
    [clash] = await stand.answerer.answer_many([asking(an_event("p2"), "k")])
    assert isinstance(clash, IdempotencyConflict)
    [repeat] = await stand.answerer.answer_many([asking(an_event("p1"), "k")])
    assert read(repeat).status == "duplicate"
    [other] = await stand.answerer.answer_many([asking(an_event("p2"), "k2")])
    assert read(other).status == "new"


async def test_a_question_that_another_process_answers_is_waited_for(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stand = await a_ready_stand(tmp_path)
    question = asking(an_event())
    await stand.claims.take_many([question.claim])
    [answer] = await stand.answerer.answer_many([question])
    assert isinstance(answer, InProgress)
    assert await stand.answerer.look_up(question.claim) is None
    done = await a_finished_answer(tmp_path_factory.mktemp("other"))
    await stand.claims.finish_many([(question.claim, done)])
    found = await stand.answerer.look_up(question.claim)
    assert found is not None and read(found).status == "duplicate"


async def a_finished_answer(folder: Path) -> bytes:
    stand = await a_ready_stand(folder)
    [answer] = await stand.answerer.answer_many([asking(an_event())])
    assert isinstance(answer, bytes)
    return answer


async def test_a_claim_whose_owner_vanished_is_given_back(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    question = asking(an_event())
    with pytest.raises(InProgress):
        await stand.answerer.look_up(question.claim)
    [answer] = await stand.answerer.answer_many([question])
    assert read(answer).status == "new"


async def test_without_the_claims_store_answers_say_that_repeats_cannot_be_told(
    tmp_path: Path,
) -> None:
    stand = await a_ready_stand(tmp_path)
    stand.claims.away = True
    [answer] = await stand.answerer.answer_many([asking(an_event())])
    assert read(answer).degraded == ["idempotency"]
    assert read(answer).model is not None


async def test_where_a_possible_repeat_stands_in_the_log_is_not_claimed_to_be_known(
    tmp_path: Path,
) -> None:
    """An earlier copy may stand before it; who makes a later decision again must know."""
    stand = await a_ready_stand(tmp_path)
    stand.claims.away = True
    await stand.answerer.answer_many([asking(an_event("p1"))])
    stand.claims.away = False
    await stand.answerer.answer_many([asking(an_event("p2"))])
    await stand.answerer.answer_many([asking(an_event("p3"))])
    record = decode_record(stand.log.of("t.decisions.v1")[-1].value)
    assert record.overlay == [identity_of(an_event("p1")), identity_of(an_event("p2"))]
    assert record.unplaced == [identity_of(an_event("p1"))]


async def test_what_neither_log_nor_spool_takes_was_not_decided(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    stand.log.away = True
    spooled = 0
    while True:  # fill the spool
        [answer] = await stand.answerer.answer_many([asking(an_event(f"p{spooled}"))])
        if isinstance(answer, NotRecorded):
            break
        spooled += 1
    assert spooled >= 1
    name = f"p{spooled}"
    assert decision_id(identity_of(an_event(name))) not in stand.claims.kept
    stand.log.away = False
    assert await stand.publisher.try_log()
    assert len(stand.log.of("t.decisions.v1")) == spooled
    [record] = await stand.answerer.answer_many([asking(an_event(name))])
    assert read(record).status == "new"
    decided = decode_record(stand.log.of("t.decisions.v1")[-1].value)
    assert identity_of(an_event(name)) not in decided.overlay
    assert len(decided.overlay) == spooled  # what was spooled was accepted


async def test_a_mixed_batch_keeps_its_order(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    await stand.answerer.answer_many([asking(an_event("p1")), asking(an_event("p3"))])
    answers = await stand.answerer.answer_many([asking(an_event(f"p{i}")) for i in range(5)])
    assert [read(a).event_id for a in answers] == [f"p{i}" for i in range(5)]
    statuses = [read(a).status for a in answers]
    assert statuses == ["new", "duplicate", "new", "duplicate", "new"]
    [last] = [r for r in stand.log.of("t.decisions.v1") if b'"p4"' in r.value]
    names = [identity_of(an_event(f"p{i}")) for i in (1, 3, 0, 2)]
    assert decode_record(last.value).overlay == names


async def test_answers_of_batches_in_flight_do_not_mix(tmp_path: Path) -> None:
    stand = await a_ready_stand(tmp_path)
    batches = await asyncio.gather(
        *(
            stand.answerer.answer_many([asking(an_event(f"b{b}_{i}")) for i in range(7)])
            for b in range(5)
        )
    )
    for b, answers in enumerate(batches):
        assert [read(a).event_id for a in answers] == [f"b{b}_{i}" for i in range(7)]
