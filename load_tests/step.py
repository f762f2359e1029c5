"""`python -m load_tests.step`: what one decision costs, stage by stage, in CPU time of its thread.

In one process, without HTTP: a real store, a real log, the shipped `features.yaml` and
`policy.yaml`, a signed version of a network and a forest. Every figure is the median of several
rounds, in CPU microseconds of the event loop's thread for each question, what the loop costs
included.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvloop

from api.answer import Question
from api.seen import Asked
from load_tests.features_servers import Servers, serving
from load_tests.report import Row, main
from load_tests.step_stage import Bodies, Stage, on_stage
from models.decision import Source
from models.decision_codec import answer_in, encode_record
from pipeline.collector import SMALL_STEPS, calm_collector

BATCHES = (1, 8, 32, 256)
QUESTIONS = 2_048
MUST_PER_CPU_S, AIM_PER_CPU_S = 7_000, 15_000
BATCH_MUST_PER_CPU_S, BATCH_AIM_PER_CPU_S = 20_000, 50_000
BATCH_ROUTE_EVENTS = 1_000

T = TypeVar("T")


class Costs:
    """CPU microseconds by stage, added up over the batches of a round."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.us: dict[str, float] = {}

    def of(self, stage: str, call: Callable[[], T]) -> T:
        """Run a stage and count what it takes."""
        begun = time.thread_time()
        result = call()
        self._add(stage, begun)
        return result

    async def of_async(self, stage: str, call: Callable[[], Awaitable[T]]) -> T:
        """Run a stage that waits; the loop and its other tasks are counted, waiting is not."""
        begun = time.thread_time()
        result = await call()
        self._add(stage, begun)
        return result

    def _add(self, stage: str, begun: float) -> None:
        self.us[stage] = self.us.get(stage, 0.0) + (time.thread_time() - begun) * 1e6


async def by_stages(stage: Stage, bodies: Sequence[bytes]) -> dict[str, float]:
    """Walk one batch through the stages one by one."""
    costs = Costs()
    parse = stage.intake.question
    questions: list[Question] = costs.of("parse", lambda: [parse(body) for body in bodies])
    events = [q.event for q in questions]
    claims = [q.claim for q in questions]
    await costs.of_async("claim", lambda: stage.claims.take_many(claims))
    seen = await costs.of_async("rows and read", lambda: stage.decider.look(events, 1.0))
    asked = [Asked(event, Source(door="http", topic=stage.topics.events)) for event in events]
    records = costs.of("derive, score, rule, record", lambda: stage.decider.decide(asked, seen))
    encoded = costs.of("encode records", lambda: [encode_record(record) for record in records])
    outgoing = costs.of("outgoing", lambda: stage.answerer.outgoing_of(questions, records, encoded))
    await costs.of_async("publish", lambda: stage.publisher.publish_many(outgoing))
    answers = costs.of("encode answers", lambda: [answer_in(data) for data in encoded])
    done = list(zip(claims, answers, strict=True))
    await costs.of_async("keep answers", lambda: stage.claims.finish_many(done))
    costs.of("metrics", lambda: stage.metrics.observe_batch(records, "http", 0.001))
    return costs.us


async def whole(stage: Stage, bodies: Sequence[bytes]) -> float:
    """Answer one batch as the HTTP door does; return CPU microseconds."""
    begun = time.thread_time()
    answers = await stage.answerer.answer_many([stage.intake.question(body) for body in bodies])
    cost = (time.thread_time() - begun) * 1e6
    assert all(isinstance(answer, bytes) for answer in answers), answers
    return cost


async def measure_batches(stage: Stage, made: Bodies, size: int, rounds: int) -> list[Row]:
    """Answer questions in batches of one size."""
    number = max(1, QUESTIONS // size // 8)
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        total: dict[str, float] = {}
        for _ in range(number):
            for name, us in (await by_stages(stage, made.make(size))).items():
                total[name] = total.get(name, 0.0) + us
        total["whole"] = 0.0
        for _ in range(number):
            total["whole"] += await whole(stage, made.make(size))
        for name, us in total.items():
            found.setdefault(name, []).append(us / (number * size))
    costs = {name: statistics.median(each) for name, each in found.items()}
    rows = [
        Row(f"batches of {size}: {name}", us, "µs/decision", better="lower")
        for name, us in costs.items()
    ]
    rate = 1e6 / costs["whole"]
    return [*rows, Row(f"batches of {size}: decisions per CPU-second", rate, "decisions/CPU-s")]


async def _measure(servers: Servers, quick: bool) -> list[Row]:
    rounds = 3 if quick else 9
    rows: list[Row] = []
    async with on_stage(servers) as stage:
        made = Bodies("new")
        await whole(stage, made.make(32))
        calm_collector(SMALL_STEPS)
        for size in BATCHES:
            rows += await measure_batches(stage, made, size, rounds)
    return rows


def measure(quick: bool) -> Sequence[Row]:
    """Measure on the event loop that serves."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as servers,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_measure(servers, quick))


if __name__ == "__main__":
    main("step", measure)
