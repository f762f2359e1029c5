"""Batches form from waiting alone; everything is bounded; every asker hears."""

import asyncio
from collections.abc import Sequence

import pytest

from api.coalesce import Coalescer
from api.errors import Draining, Overloaded


class Step:
    """Doubles numbers once its gate opens, and remembers its batches."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.batches: list[list[int]] = []

    async def __call__(self, questions: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(questions))
        await self.gate.wait()
        return [ValueError("odd") if q % 2 else 2 * q for q in questions]


def a_coalescer(
    step: Step, *, waiting_max: int = 10, wait_max_s: float = 60.0
) -> Coalescer[int, int]:
    return Coalescer(step, 3, waiting_max, 1, wait_max_s)


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


async def test_a_question_that_waited_too_long_is_refused_and_not_answered_late() -> None:
    step = Step()
    coalescer = a_coalescer(step, wait_max_s=-1.0)
    with pytest.raises(Overloaded):
        await coalescer.ask(2)
    assert step.batches == []


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

    coalescer = Coalescer(step, 3, 10, 1, 60.0)
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
