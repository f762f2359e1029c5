"""questions, one by one → batches: those that wait together go together, or are refused early.

No timer before a batch: a question that finds the server idle starts at once, and those that arrive
while all slots are busy form the next batch. While `SPREAD` batches are at work, another one is
begun only when there are enough for it: many small ones cost more than few large ones. Questions of
lists (bulk) wait in a line of their own, behind those that somebody waits for singly.

What cannot be answered in time is refused when it comes; how long it would wait is estimated from
what batches and questions lately took (`coalesce_rate`). A burst may use the whole deadline; while
a queue stands, that is, did not empty for `STANDING_S`, no longer wait than `queue_target_s` is
let in, so that what is accepted stays fast past saturation.
Source: controlled delay, Nichols & Jacobson, "Controlling Queue Delay" (2012), in the form for
servers of Maurer, "Fail at Scale" (2015).
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Generic, TypeVar

from api.coalesce_rate import Limits, Rate
from api.errors import DeadlineMissed, Draining, Overloaded

STANDING_S: Final = 0.1
SPREAD: Final = 2
LOOK_S: Final = 0.004
"""Deadlines are looked at so often; an answer that would come within this of one is refused."""
BULK_LOOKS: Final = 16
"""Those of lists at every so manieth look."""

Q = TypeVar("Q")
A = TypeVar("A")


class Ticket(Generic[Q, A]):
    """A question that was taken; its asker hears once, unless it withdrew."""

    __slots__ = ("deadline_at", "done", "question")

    def __init__(
        self, question: Q, deadline_at: float, done: Callable[[A | Exception], None]
    ) -> None:
        """Take the question, and whom to tell."""
        self.question = question
        self.deadline_at = deadline_at
        self.done: Callable[[A | Exception], None] | None = done

    def tell(self, answer: A | Exception) -> None:
        """Tell the asker, if it did not hear yet."""
        done, self.done = self.done, None
        if done is not None:
            done(answer)

    def withdraw(self) -> None:
        """Want the answer no more; what is not begun will not be done."""
        self.done = None


class Coalescer(Generic[Q, A]):
    """Two bounded queues in front of a step that answers many at once."""

    def __init__(
        self,
        step: Callable[[Sequence[Q]], Awaitable[Sequence[A | Exception]]],
        limits: Limits,
        clock: Callable[[], float] = time.perf_counter,
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """Bound everything.

        Args:
            step: Answers a batch in order; an exception in place of an answer is told to its
                asker, one that the step raises to all of the batch.
            limits: Of queue and batches.
            clock: Monotonic seconds, on which deadlines are given.
            cpu_clock: Seconds that this thread has run.
        """
        self._step = step
        self._limits = limits
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._waiting: deque[Ticket[Q, A]] = deque()
        self._bulk: deque[Ticket[Q, A]] = deque()
        self._at_work: dict[asyncio.Task[None], list[Ticket[Q, A]]] = {}
        self._bulk_task: asyncio.Task[None] | None = None
        self._rate = Rate(limits)
        self._emptied_at = clock()
        self._scheduled = False
        self._looking = False
        self._looks = 0
        self._closed = False

    @property
    def waiting(self) -> int:
        """Questions that wait now."""
        return len(self._waiting)

    def check(self, deadline_at: float) -> None:
        """Refuse a question that would not be answered in time; costs less than to read it.

        Raises:
            Overloaded: Too many wait, or it would wait too long.
            Draining: `close` was called.
        """
        if self._closed:
            raise Draining("stopping")
        waiting = len(self._waiting)
        if not waiting and self._may_begin():
            return  # it starts at once
        if waiting >= self._limits.waiting_max:
            raise Overloaded(f"{waiting} requests are waiting")
        begins_in_s = self._rate.begins_in_s(waiting)
        now, expected_s = self._clock(), begins_in_s + self._rate.took_s
        if now + expected_s > deadline_at:
            raise Overloaded(f"{expected_s * 1000:.0f} ms would pass before an answer")
        target_s = self._limits.queue_target_s
        if begins_in_s > target_s and now - self._emptied_at > STANDING_S:
            raise Overloaded(f"a queue of more than {target_s * 1000:.0f} ms stands")

    def submit(
        self, question: Q, deadline_at: float, done: Callable[[A | Exception], None]
    ) -> Ticket[Q, A]:
        """Take a question that `check` let in; `done` is called once, in the loop."""
        ticket: Ticket[Q, A] = Ticket(question, deadline_at, done)
        self._waiting.append(ticket)
        self._soon()
        return ticket

    async def ask(self, question: Q, deadline_at: float = float("inf")) -> A:
        """Wait for the answer.

        Raises:
            Overloaded: It would not be answered in time.
            DeadlineMissed: It was not.
            Draining: `close` was called.
        """
        self.check(deadline_at)
        heard: asyncio.Future[A] = asyncio.get_running_loop().create_future()

        def done(answer: A | Exception) -> None:
            if heard.done():  # its asker is leaving
                return
            if isinstance(answer, Exception):
                heard.set_exception(answer)
            else:
                heard.set_result(answer)

        ticket = self.submit(question, deadline_at, done)
        try:
            return await heard
        finally:
            ticket.withdraw()

    async def ask_list(self, questions: Sequence[Q], deadline_at: float) -> list[A | Exception]:
        """Wait for the answers of a list: each its own, or what stood in its way.

        Raises:
            Overloaded: Too many questions of lists wait already.
            Draining: `close` was called.
        """
        if self._closed:
            raise Draining("stopping")
        if len(self._bulk) + len(questions) > self._limits.bulk_waiting_max and self._bulk:
            raise Overloaded(f"{len(self._bulk)} questions of lists are waiting")
        if not questions:
            return []
        heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        answers: dict[int, A | Exception] = {}

        def done(index: int, answer: A | Exception) -> None:
            answers[index] = answer
            if len(answers) == len(questions) and not heard.done():
                heard.set_result(None)

        tickets = [
            Ticket[Q, A](question, deadline_at, partial(done, index))
            for index, question in enumerate(questions)
        ]
        self._bulk.extend(tickets)
        self._soon()
        try:
            await heard
        finally:
            for ticket in tickets:
                ticket.withdraw()
        return [answers[index] for index in range(len(questions))]

    async def close(self) -> None:
        """Refuse new questions, and return when those that were taken are answered."""
        self._closed = True
        while self._at_work or self._waiting or self._bulk:
            self._start()
            await asyncio.wait(self._at_work) if self._at_work else await asyncio.sleep(0)

    def _soon(self) -> None:
        """Start after this turn of the loop: what else arrives in it rides along."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start)
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _start(self) -> None:
        self._scheduled = False
        while self._waiting and self._may_begin():
            self._begin(self._take(self._waiting, self._rate.fitting()))
        if not self._waiting:
            self._emptied_at = self._clock()
            if self._bulk and self._bulk_task is None:
                self._bulk_task = self._begin(self._take(self._bulk, self._limits.batch_max))

    def _may_begin(self) -> bool:
        at_work, limits = len(self._at_work), self._limits
        singly = at_work - (self._bulk_task is not None)
        enough = singly < SPREAD or len(self._waiting) >= limits.batch_least
        return at_work < limits.in_flight_max and enough

    def _take(self, line: deque[Ticket[Q, A]], at_most: int) -> list[Ticket[Q, A]]:
        batch: list[Ticket[Q, A]] = []
        while line and len(batch) < at_most:
            ticket = line.popleft()
            if ticket.done is not None:  # its asker is still there
                batch.append(ticket)
        return batch

    def _begin(self, batch: list[Ticket[Q, A]]) -> asyncio.Task[None] | None:
        if not batch:
            return None
        task = asyncio.ensure_future(self._run(batch))
        self._at_work[task] = batch
        task.add_done_callback(partial(self._finished, self._clock()))
        return task

    def _finished(self, began: float, task: asyncio.Task[None]) -> None:
        batch = self._at_work.pop(task)
        took_s: float | None = self._clock() - began
        if task is self._bulk_task:
            self._bulk_task = took_s = None
        self._rate.answered(len(batch), took_s, bool(self._waiting), self._cpu_clock())
        self._start()

    async def _run(self, batch: list[Ticket[Q, A]]) -> None:
        answers: Sequence[A | Exception]
        try:
            answers = await self._step([ticket.question for ticket in batch])
        except Exception as error:  # the top of this loop: every asker is told
            answers = [error] * len(batch)
        for ticket, answer in zip(batch, answers, strict=True):
            ticket.tell(answer)

    def _look(self) -> None:
        """Tell askers whose deadline is reached; what is at work for them is recorded anyway."""
        self._looking = bool(self._waiting or self._bulk or self._at_work)
        if not self._looking:
            return
        asyncio.get_running_loop().call_later(LOOK_S, self._look)
        reached = self._clock() + LOOK_S
        self._looks += 1
        lines = [self._waiting, *self._at_work.values()]
        if self._looks % BULK_LOOKS == 0:
            lines.append(self._bulk)
        for line in lines:
            for ticket in line:
                if ticket.deadline_at < reached:
                    ticket.tell(DeadlineMissed("no answer within the deadline; ask again"))
