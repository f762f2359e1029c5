"""Batches form from waiting alone; everything is bounded; every asker hears."""

import asyncio
from collections.abc import Sequence

import pytest

from api.coalesce import Coalescer
from api.coalesce_rate import Limits
from api.errors import DeadlineMissed, Draining, Overloaded

Task = asyncio.Task[int]


class Step:
    """Doubles numbers once its gate opens, and remembers its batches."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.once = False
        self.batches: list[list[int]] = []

    def open_once(self) -> None:
        """Let the one batch go that is at work."""
        self.once = True
        self.gate.set()

    async def __call__(self, questions: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(questions))
        await self.gate.wait()
        if self.once:
            self.once = False
            self.gate.clear()
        return [ValueError("odd") if q % 2 else 2 * q for q in questions]


class Clock:
    """Seconds that pass when a test says so."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def a_coalescer(
    step: Step, *, waiting_max: int = 10, clock: Clock | None = None, target_s: float = 0.02
) -> Coalescer[int, int]:
    limits = Limits(3, waiting_max, 6, 1, target_s, batch_least=3)
    clock = clock or Clock()
    return Coalescer(step, limits, clock, clock)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_idle_server_starts_at_once_and_those_who_wait_go_together() -> None:
    step = Step()
    coalescer = a_coalescer(step)
    asked = [asyncio.create_task(coalescer.ask(0))]
    await settle()
    assert step.batches == [[0]]
    asked += [asyncio.create_task(coalescer.ask(q)) for q in (2, 4, 6, 8)]
    await settle()
    assert coalescer.waiting == 4
    step.gate.set()
    assert await asyncio.gather(*asked) == [0, 4, 8, 12, 16]
    assert step.batches == [[0], [2, 4, 6], [8]]


async def test_one_more_than_may_wait_is_refused() -> None:
    step = Step()
    coalescer = a_coalescer(step, waiting_max=2)
    first = asyncio.create_task(coalescer.ask(0))
    await settle()
    waiting = [asyncio.create_task(coalescer.ask(q)) for q in (2, 4)]
    await settle()
    with pytest.raises(Overloaded):
        await coalescer.ask(6)
    step.gate.set()
    assert await asyncio.gather(first, *waiting) == [0, 4, 8]


async def a_busy_coalescer(step: Step, clock: Clock) -> tuple[Coalescer[int, int], list[Task]]:
    """Return one that answers three questions in 30 ms, with three at work and three waiting."""
    coalescer = a_coalescer(step, clock=clock, waiting_max=20)
    asked = [asyncio.create_task(coalescer.ask(2 * q)) for q in range(12)]
    await settle()
    for _ in range(2):
        clock.now += 0.03
        step.open_once()
        await settle()
    assert coalescer.waiting == 3
    return coalescer, asked


async def test_what_would_be_late_is_refused_when_it_comes() -> None:
    step, clock = Step(), Clock()
    coalescer, asked = await a_busy_coalescer(step, clock)
    coalescer.check(clock.now + 0.091)  # three at work, three waiting, itself: a batch each
    with pytest.raises(Overloaded, match="90 ms would pass"):
        coalescer.check(clock.now + 0.089)
    step.gate.set()
    assert await asyncio.gather(*asked) == [4 * q for q in range(12)]


async def test_while_a_queue_stands_only_a_short_wait_is_let_in() -> None:
    step, clock = Step(), Clock()
    coalescer, asked = await a_busy_coalescer(step, clock)
    coalescer.check(float("inf"))  # a burst may wait
    clock.now += 0.1
    with pytest.raises(Overloaded, match="a queue of more than 20 ms stands"):
        coalescer.check(float("inf"))
    step.gate.set()
    await asyncio.gather(*asked)
    coalescer.check(float("inf"))


async def test_an_idle_server_takes_a_question_however_slow_it_was() -> None:
    step, clock = Step(), Clock()
    coalescer, asked = await a_busy_coalescer(step, clock)
    step.gate.set()
    await asyncio.gather(*asked)
    coalescer.check(clock.now + 0.001)


async def test_a_deadline_that_passes_is_told_while_the_work_goes_on() -> None:
    step, clock = Step(), Clock()
    coalescer = a_coalescer(step, clock=clock, waiting_max=20)
    tasks = [asyncio.create_task(coalescer.ask(q, clock.now + 0.05)) for q in (2, 4, 6, 8)]
    patient = asyncio.create_task(coalescer.ask(10))
    await settle()
    clock.now += 0.049  # an answer would come within the next look
    missed = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(answer) for answer in missed} == {DeadlineMissed}
    step.gate.set()
    assert await patient == 20
    assert step.batches == [[2, 4, 6], [10]]  # what nobody waits for is not begun


async def test_lists_wait_behind_single_questions_and_are_bounded() -> None:
    step, clock = Step(), Clock()
    coalescer = a_coalescer(step, clock=clock, waiting_max=20)
    one = asyncio.create_task(coalescer.ask(0))
    await settle()
    many = asyncio.create_task(coalescer.ask_list([2, 3, 4, 6], float("inf")))
    others = [asyncio.create_task(coalescer.ask(q)) for q in (20, 22)]
    await settle()
    with pytest.raises(Overloaded):
        await coalescer.ask_list([8, 10, 12], float("inf"))
    step.gate.set()
    assert await asyncio.gather(one, *others) == [0, 40, 44]
    answers = await many
    assert (answers[0], answers[2:]) == (4, [8, 12])
    assert isinstance(answers[1], ValueError)
    assert step.batches == [[0], [20, 22], [2, 3, 4], [6]]
    assert await coalescer.ask_list([], float("inf")) == []


async def test_what_a_list_takes_is_not_expected_of_single_questions() -> None:
    step, clock = Step(), Clock()
    coalescer = Coalescer(step, Limits(3, 10, 6, 2, batch_least=3), clock, clock)
    many = asyncio.create_task(coalescer.ask_list([2, 4, 6, 8, 10, 12], float("inf")))
    await settle()
    for _ in range(2):
        clock.now += 30.0
        step.open_once()
        await settle()
    await many
    asked = [asyncio.create_task(coalescer.ask(2 * q)) for q in range(8)]
    await settle()
    assert coalescer.waiting == 2
    coalescer.check(clock.now + 0.001)
    step.gate.set()
    await asyncio.gather(*asked)


async def test_batches_are_bounded_by_the_time_that_they_take() -> None:
    step, clock = Step(), Clock()
    coalescer: Coalescer[int, int] = Coalescer(
        step, Limits(8, in_flight_max=1, batch_max_s=0.035, batch_least=1), clock, clock
    )
    asked = [asyncio.create_task(coalescer.ask(2 * q)) for q in range(30)]
    await settle()
    for _ in range(3):
        clock.now += 0.08  # 10 ms each
        step.open_once()
        await settle()
    step.gate.set()
    await asyncio.gather(*asked)
    assert [len(batch) for batch in step.batches[:3]] == [8, 8, 3]


async def test_an_exception_in_an_answers_place_is_its_askers_alone() -> None:
    step = Step()
    step.gate.set()
    coalescer = a_coalescer(step)
    answers = await asyncio.gather(*(coalescer.ask(q) for q in (2, 3, 4)), return_exceptions=True)
    assert answers[0] == 4
    assert isinstance(answers[1], ValueError)
    assert answers[2] == 8


async def test_a_step_that_raises_tells_all_of_its_batch_and_the_next_goes_on() -> None:
    calls: list[int] = []

    async def step(questions: Sequence[int]) -> list[int | Exception]:
        calls.append(len(questions))
        if len(calls) == 1:
            raise RuntimeError("broken")
        return list(questions)

    coalescer = Coalescer(step, Limits(3, 10, in_flight_max=1))
    answers = await asyncio.gather(*(coalescer.ask(q) for q in (1, 2)), return_exceptions=True)
    assert [type(a) for a in answers] == [RuntimeError, RuntimeError]
    assert await coalescer.ask(5) == 5


async def test_an_asker_who_left_is_not_worked_for() -> None:
    step = Step()
    coalescer = a_coalescer(step)
    first = asyncio.create_task(coalescer.ask(0))
    await settle()
    gone = asyncio.create_task(coalescer.ask(2))
    stays = asyncio.create_task(coalescer.ask(4))
    await settle()
    gone.cancel()
    await settle()
    step.gate.set()
    assert await asyncio.gather(first, stays) == [0, 8]
    assert step.batches == [[0], [4]]


async def test_closing_answers_what_was_taken_and_refuses_the_rest() -> None:
    step = Step()
    coalescer = a_coalescer(step)
    asked = [asyncio.create_task(coalescer.ask(q)) for q in (0, 2, 4, 6)]
    await settle()
    closing = asyncio.create_task(coalescer.close())
    await settle()
    with pytest.raises(Draining):
        await coalescer.ask(8)
    step.gate.set()
    await closing
    assert [task.result() for task in asked] == [0, 4, 8, 12]
