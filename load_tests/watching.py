"""What it costs a decision to be watched: metrics, and traces of 1 % and of all.

In one process, without HTTP, on a real store and a real log: nothing, metrics alone, and metrics
with traces are taken in turns within each round, in an order that turns too, so that whatever else
the machine does meets all alike. Figures are CPU seconds of the whole process; a turn ends when all
of its spans are in the file that they go to, so the thread that exports them is in it.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import uvloop
from opentelemetry.sdk.resources import Resource

from api.answer import Answerer, Told
from api.routes_http import begin
from features.trace import Span, Tracer
from load_tests.features_servers import Servers, serving
from load_tests.report import Row
from load_tests.step_stage import FEATURES_TIMEOUT_S, Bodies, Stage, on_stage
from pipeline.collector import SMALL_STEPS, calm_collector
from riskbeat.tracer_otel import OtelTracer, exporter_of

BATCH = 32
BATCHES_OF_TURN = 16  # short turns: what is compared lies close together
ROUNDS, QUICK_ROUNDS = 60, 10
MUST, AIM = 0.08, 0.03
END_POLL_S = 0.05
NOTHING, METRICS, BOUNDED = "nothing", "metrics", "metrics and 1 % traces"
SHARES = {BOUNDED: 0.01, "metrics and all traces": 1.0}


class Counted(OtelTracer):
    """Knows how many spans it has taken, and how many are where they should go."""

    taken = ended = 0

    def take(self, span: Span) -> None:
        """See `features.trace.Tracer`."""
        self.taken += 1
        super().take(span)

    def count(self, _outcome: str, spans: int) -> None:
        """Hear that spans came to their end."""
        self.ended += spans

    def wait(self) -> None:
        """Wait until all spans that were taken are there."""
        while self.ended < self.taken:
            time.sleep(END_POLL_S)


def a_tracer(share: float, file: Path) -> Counted:
    """Return a tracer of a share of what comes, into a file."""
    made = Counted(share, exporter_of(str(file)), Resource.create({"service.name": "load-test"}))
    made.tell(made.count)
    return made


async def take_turn(
    stage: Stage, answerer: Answerer, tracer: Counted | None, made: Bodies
) -> float:
    """Answer batches as the HTTP door does; return CPU microseconds of a decision."""
    batches = [made.make(BATCH) for _ in range(BATCHES_OF_TURN)]
    begun = time.process_time()
    for bodies in batches:
        questions = [stage.intake.question(body) for body in bodies]
        if tracer is not None:
            questions = [begin(tracer, question) for question in questions]
        answers = await answerer.answer_many(questions)
        assert all(isinstance(answer, bytes) for answer in answers), answers
    if tracer is not None:
        tracer.wait()
    return (time.process_time() - begun) * 1e6 / (BATCH * BATCHES_OF_TURN)


def an_answerer(stage: Stage, tracer: Tracer | None, *, metrics: bool) -> Answerer:
    """Return an answerer that is watched so."""
    if metrics:
        told = Told(
            lambda records, seconds: stage.metrics.observe_batch(records, "http", seconds),
            lambda kind: stage.metrics.repeats.labels(kind).inc(),
        )
    else:
        told = Told(lambda _records, _seconds: None, lambda _kind: None)
    return Answerer(
        stage.spec,
        stage.topics,
        stage.decider,
        stage.claims,
        stage.publisher,
        FEATURES_TIMEOUT_S,
        told,
        tracer=tracer,
    )


async def _measure(servers: Servers, folder: Path, rounds: int) -> dict[str, list[float]]:
    tracers = {name: a_tracer(share, folder / f"{share}.jsonl") for name, share in SHARES.items()}
    async with on_stage(servers) as stage:
        answerers = {
            NOTHING: an_answerer(stage, None, metrics=False),
            METRICS: an_answerer(stage, None, metrics=True),
            **{name: an_answerer(stage, one, metrics=True) for name, one in tracers.items()},
        }
        made, names = Bodies("watched"), list(answerers)
        took_us: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            await take_turn(stage, answerers[name], tracers.get(name), made)
        calm_collector(SMALL_STEPS)
        for turn in range(rounds):
            for place in range(len(names)):
                name = names[(turn + place) % len(names)]
                us = await take_turn(stage, answerers[name], tracers.get(name), made)
                took_us[name].append(us)
        for answerer in answerers.values():
            await answerer.close()
    for tracer in tracers.values():
        tracer.close()
    return took_us


def measure_watching(quick: bool) -> list[Row]:
    """Measure on the event loop that serves; ratios are medians over rounds."""
    with (
        tempfile.TemporaryDirectory(prefix="riskbeat-load-") as name,
        serving(Path(name)) as servers,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        rounds = QUICK_ROUNDS if quick else ROUNDS
        found = runner.run(_measure(servers, Path(name) / "spans", rounds))
        words = servers.words
    rows = []
    for name, us in found.items():
        note = f"batches of {BATCH}, without HTTP, median of {len(us)} turns; {words}"
        row = Row(f"decisions, watched by {name}", 1e6 / median(us), "/CPU-s", note=note)
        rows.append(row)
    for name in (METRICS, *SHARES):
        ratios = [us / bare - 1 for us, bare in zip(found[name], found[NOTHING], strict=True)]
        low, high = quantiles(ratios, n=4)[::2]
        must, aim = (MUST, AIM) if name == BOUNDED else (None, None)
        note = f"more CPU than {NOTHING}; quartiles {low:.3f} and {high:.3f}"
        what = f"decisions, watched by {name}: cost"
        rows.append(Row(what, median(ratios), "share", must, aim, "lower", note))
    return rows
