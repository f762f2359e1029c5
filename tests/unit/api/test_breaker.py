"""A stage that fails in a row is left alone, looked at again, and asked again once it answers."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.answer import Answerer, Question, Told
from api.breaker import Breaker, Reason, Stage, ask_model, breakers_of
from api.claims import Claim, body_hash_of
from features.event import decision_id, identity_of
from models.decision import Decision
from tests.fakes_serving import Stand, a_stand, an_event


class Ear:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.failed: list[tuple[str, str]] = []
        self.opened: list[tuple[str, bool]] = []

    def stage_failed(self, stage: Stage, reason: Reason) -> None:
        self.failed.append((stage, reason))

    def stage_opened(self, stage: Stage, is_open: bool) -> None:
        self.opened.append((stage, is_open))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not(
    ear: Ear, clock: Clock
) -> None:
    breaker = Breaker("features", 3, 1.0, ear, clock)
    for _ in range(2):
        breaker.failed("timeout")
    breaker.succeeded()
    for _ in range(3):
        assert breaker.allows()
        breaker.failed("timeout")
    assert breaker.is_open
    assert not breaker.allows()
    assert ear.failed == [("features", "timeout")] * 5 + [("features", "open")]
    assert ear.opened == [("features", True)]


def test_one_looks_after_the_pause_and_its_success_closes_it(ear: Ear, clock: Clock) -> None:
    breaker = Breaker("claims", 1, 1.0, ear, clock)
    breaker.failed("unavailable")
    clock.now += 0.9
    assert not breaker.allows()
    clock.now += 0.2
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed("unavailable")  # the look: it is still away
    assert not breaker.allows()
    clock.now += 1.0
    assert breaker.allows()
    breaker.succeeded()
    assert not breaker.is_open
    assert all(breaker.allows() for _ in range(3))
    assert ear.opened == [("claims", True), ("claims", False)]


def test_a_look_that_never_reports_does_not_leave_it_open_for_good(ear: Ear, clock: Clock) -> None:
    breaker = Breaker("features", 1, 1.0, ear, clock)
    breaker.failed("timeout")
    clock.now += 1.0
    assert breaker.allows()  # and its asker goes away
    clock.now += 1.0
    assert breaker.allows()


def test_a_pass_that_is_slow_is_used_and_counts_and_one_that_breaks_is_left_out(ear: Ear) -> None:
    slow = breakers_of(2, 60.0, -1.0, ear)  # nothing is as quick as that
    assert ask_model(slow, lambda: "scores") == "scores"
    assert ear.failed == [("model", "slow")]
    assert ask_model(slow, lambda: "scores") == "scores"
    assert ask_model(slow, lambda: "scores") is None

    def breaks() -> str:
        raise RuntimeError("the device fell off the bus")

    assert ask_model(breakers_of(2, 60.0, 60.0, ear), breaks) is None
    assert ear.failed[-1] == ("model", "error")
    with pytest.raises(RuntimeError):
        ask_model(None, breaks)


def asking(stand: Stand, ear: Ear, clock: Clock) -> Answerer:
    told = Told(lambda records, seconds: None, lambda kind: None)
    ports: tuple[Any, ...] = (stand.decider, stand.claims, stand.publisher)
    breakers = breakers_of(2, 1.0, 60.0, ear, clock)
    return Answerer(stand.spec, stand.topics, *ports, 5.0, told, breakers)


async def degraded(answerer: Answerer, name: str) -> list[str]:
    event = an_event(name)
    claim = Claim(decision_id(identity_of(event)), body_hash_of(event))
    [answer] = await answerer.answer_many([Question(event, b"{}", claim)])
    assert isinstance(answer, bytes)
    return list(msgspec.json.decode(answer, type=Decision).degraded)


async def test_a_store_that_is_away_is_not_asked_until_it_is_looked_for(
    tmp_path: Path, ear: Ear, clock: Clock
) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    await stand.publisher.try_log()
    answerer = asking(stand, ear, clock)
    stand.states.away = stand.claims.away = True
    for name in ("p1", "p2", "p3", "p4"):
        assert await degraded(answerer, name) == ["features", "idempotency"]
    assert stand.states.calls == 2
    stand.states.away = stand.claims.away = False
    assert await degraded(answerer, "p5") == ["features", "idempotency"]
    clock.now += 1.0
    assert await degraded(answerer, "p6") == []
    assert ear.opened[-2:] == [("claims", False), ("features", False)]
    await answerer.close()


async def test_an_answer_does_not_wait_until_it_is_kept_and_a_repeat_gets_it(
    tmp_path: Path, ear: Ear, clock: Clock
) -> None:
    stand = a_stand(tmp_path)
    stand.load(1)
    await stand.publisher.try_log()
    answerer = asking(stand, ear, clock)
    event = an_event("p1")
    question = Question(event, b"{}", Claim(decision_id(identity_of(event)), body_hash_of(event)))
    [first] = await answerer.answer_many([question])
    [again] = await answerer.answer_many([question])
    assert isinstance(first, bytes)
    assert again == first.replace(b'"status":"new"', b'"status":"duplicate"')
    assert len(stand.log.of(stand.topics.decisions)) == 1
    await asyncio.wait_for(answerer.close(), 5)
