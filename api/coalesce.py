"""questions, one by one → batches: those that wait together are answered together.

No timer: a question that finds the server idle starts at once, and those that arrive while all
slots are busy form the next batch.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from api.errors import Draining, Overloaded

Q = TypeVar("Q")
A = TypeVar("A")


class _Waiting(NamedTuple, Generic[Q, A]):
    question: Q
    answer: asyncio.Future[A]
    since: float


class Coalescer(Generic[Q, A]):
    """A bounded queue in front of a step that answers many at once."""

    def __init__(
        self,
        step: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        batch_max: int,
        waiting_max: int,
        in_flight_max: int,
        wait_max_s: float,
    ) -> None:
        """Bound everything.

        Args:
            step: Answers a batch in order; an exception in place of an answer is raised to its
                asker, one that the step raises to all of the batch.
            batch_max: Questions per batch.
            waiting_max: Questions that may wait; one more is refused.
            in_flight_max: Batches at work at once.
            wait_max_s: A question that waited longer is refused instead of answered late.
        """
        self._step = step
        self._batch_max = batch_max
        self._waiting_max = waiting_max
        self._in_flight_max = in_flight_max
        self._wait_max_s = wait_max_s
        self._waiting: deque[_Waiting[Q, A]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closed = False

    @property
    def waiting(self) -> int:
        """Questions that wait now."""
        return len(self._waiting)

    async def ask(self, question: Q) -> A:
        """Wait for the answer.

        Raises:
            Overloaded: Too many wait, or this one waited too long.
            Draining: `close` was called.
        """
        if self._closed:
            raise Draining("stopping")
        if len(self._waiting) >= self._waiting_max:
            raise Overloaded(f"{self._waiting_max} requests are waiting")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(question, loop.create_future(), loop.time())
        self._waiting.append(waiting)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._start)  # what arrived in the same turn of the loop rides along
        answer: A = await waiting.answer
        return answer

    async def close(self) -> None:
        """Refuse new questions, and return when those that were taken are answered."""
        self._closed = True
        while self._tasks or self._waiting:
            self._start()
            await asyncio.wait(self._tasks) if self._tasks else await asyncio.sleep(0)

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and len(self._tasks) < self._in_flight_max:
            batch = self._take()
            if batch:
                task = asyncio.ensure_future(self._run(batch))
                self._tasks.add(task)
                task.add_done_callback(self._finished)

    def _take(self) -> list[_Waiting[Q, A]]:
        oldest = asyncio.get_running_loop().time() - self._wait_max_s
        batch: list[_Waiting[Q, A]] = []
        while self._waiting and len(batch) < self._batch_max:
            waiting = self._waiting.popleft()
            if waiting.answer.done():  # its asker went away
                continue
            if waiting.since < oldest:
                waiting.answer.set_exception(Overloaded(f"waited over {self._wait_max_s:g} s"))
                continue
            batch.append(waiting)
        return batch

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._start()

    async def _run(self, batch: list[_Waiting[Q, A]]) -> None:
        answers: Sequence[A | Exception]
        try:
            answers = await self._step([waiting.question for waiting in batch])
        except Exception as error:  # the top of this loop: every asker is told
            answers = [error] * len(batch)
        for waiting, answer in zip(batch, answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)
