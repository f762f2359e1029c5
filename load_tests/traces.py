"""`python -m load_tests.traces`: what tracing costs a decision, and the routing of an event.

In one process: nothing, 1 % and all is traced, in turns within each round, in an order that turns
too, so that whatever else the machine does meets all three alike. Figures are CPU seconds of the
whole process, the thread that exports to a file included; ratios are medians of rounds.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from api.answer import Answerer, Told
from api.routes_http import begin
from features.trace import Tracer
from load_tests.features_servers import Servers, serving
from load_tests.report import Row, main
from load_tests.step_stage import FEATURES_TIMEOUT_S, Bodies, Stage, on_stage
from pipeline.featurize import FeaturizeLimits, Layout, Place
from pipeline.metrics import FeaturizeMetrics
from pipeline.route import Router
from pipeline.traced import StepTraces
from riskbeat.clock import now_ms
from riskbeat.serve import calm_collector
from riskbeat.tracer_otel import open_tracer

SHARES = {"off": 0.0, "1 %": 0.01, "100 %": 1.0}
BATCH = 32
BATCHES_OF_ROUND = 24
ROUTED_EVENTS, ROUTED_BATCH = 20_000, 1_000
ROUNDS, ROUNDS_QUICK = 15, 7
MUST_COST_SHARE = 0.03
PARTITIONS = 8


@dataclass(frozen=True, slots=True)
class LogEvent:
    """An event as the log hands it over."""

    offset: int
    timestamp: int
    value: bytes
    headers: Sequence[tuple[str, bytes]] = field(default=())


def tracers(folder: Path) -> dict[str, Tracer | None]:
    """Return who takes the spans of each of the three."""
    return {
        name: open_tracer(share, str(folder / f"{share}.jsonl"), "load-test") if share else None
        for name, share in SHARES.items()
    }


def turned(round_: int) -> list[str]:
    """Return the three in the order of a round."""
    names = list(SHARES)
    return names[round_ % 3 :] + names[: round_ % 3]


async def decide(stage: Stage, answerer: Answerer, tracer: Tracer | None, made: Bodies) -> float:
    """Answer batches as the HTTP door does; return CPU microseconds of a decision."""
    batches = [made.make(BATCH) for _ in range(BATCHES_OF_ROUND)]
    begun = time.process_time()
    for bodies in batches:
        questions = [stage.intake.question(body) for body in bodies]
        if tracer is not None:
            questions = [begin(tracer, question) for question in questions]
        answers = await answerer.answer_many(questions)
        assert all(isinstance(answer, bytes) for answer in answers), answers
    return (time.process_time() - begun) * 1e6 / (BATCH * BATCHES_OF_ROUND)


def route(stage: Stage, tracer: Tracer | None, events: Sequence[LogEvent]) -> float:
    """Route a stretch of a log; return CPU microseconds of an event."""
    place = Place(stage.topics.events, 0)
    layout = Layout({place.topic: "e"}, {"e": 1}, stage.topics.updates, PARTITIONS, "dead")
    traces = None if tracer is None else StepTraces(tracer, layout, FeaturizeMetrics())
    router = Router(
        stage.spec,
        source="e",
        source_partition=0,
        partitions=PARTITIONS,
        epoch=0,
        position=0,
        limits=FeaturizeLimits(),
        now_ms=now_ms,
    )
    begun = time.process_time()
    for first in range(0, len(events), ROUTED_BATCH):
        batch = events[first : first + ROUTED_BATCH]
        routing = None if traces is None else traces.begin([(place, batch)])
        done = router.route(batch, batch[-1].timestamp, "" if routing is None else routing.context)
        if traces is not None and routing is not None:
            traces.routed(routing, [done])
    return (time.process_time() - begun) * 1e6 / len(events)


def rows_of(what: str, unit: str, found: dict[str, list[float]]) -> list[Row]:
    """Return what each costs, and how much more than nothing traced."""
    off = found["off"]
    rows = [
        Row(f"{what}, traced {name}", 1e6 / statistics.median(us), f"{unit}/CPU-s")
        for name, us in found.items()
    ]
    for name in ("1 %", "100 %"):
        more = statistics.median(us / was - 1 for us, was in zip(found[name], off, strict=True))
        must = MUST_COST_SHARE if name == "1 %" else None
        title = f"{what}, traced {name}: more CPU than off"
        rows.append(Row(title, more, "share", must=must, better="lower"))
    return rows


async def _measure(servers: Servers, folder: Path, quick: bool) -> list[Row]:
    taking, rounds = tracers(folder), ROUNDS_QUICK if quick else ROUNDS
    decided: dict[str, list[float]] = {name: [] for name in SHARES}
    routed: dict[str, list[float]] = {name: [] for name in SHARES}
    async with on_stage(servers) as stage:
        told = Told(
            lambda records, seconds: stage.metrics.observe_batch(records, "http", seconds),
            lambda kind: stage.metrics.repeats.labels(kind).inc(),
        )
        answerers = {
            name: Answerer(
                stage.spec,
                stage.topics,
                stage.decider,
                stage.claims,
                stage.publisher,
                FEATURES_TIMEOUT_S,
                told,
                tracer=tracer,
            )
            for name, tracer in taking.items()
        }
        made = Bodies("traced")
        at_ms = now_ms()
        log = [LogEvent(n, at_ms, body) for n, body in enumerate(made.make(ROUTED_EVENTS))]
        for name in SHARES:
            await decide(stage, answerers[name], taking[name], made)
            route(stage, taking[name], log)
        calm_collector()
        for round_ in range(rounds):
            for name in turned(round_):
                decided[name].append(await decide(stage, answerers[name], taking[name], made))
                routed[name].append(route(stage, taking[name], log))
        for answerer in answerers.values():
            await answerer.close()
    for tracer in taking.values():
        if tracer is not None:
            tracer.close()
    return [
        *rows_of(f"decisions in batches of {BATCH}", "decisions", decided),
        *rows_of(f"routing in batches of {ROUTED_BATCH}", "events", routed),
    ]


def measure(quick: bool) -> Sequence[Row]:
    """Measure on the event loop that serves."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(Path(folder)) as servers,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        return runner.run(_measure(servers, Path(folder) / "spans", quick))


if __name__ == "__main__":
    main("traces", measure)
