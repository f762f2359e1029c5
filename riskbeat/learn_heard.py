"""what the learner's loop does → its log, its metrics and its spans."""

from collections.abc import Callable

import structlog

from features.trace import Tracer
from models.registry import Freeze
from pipeline.learn_metrics import LearnMetrics
from pipeline.learn_ports import Published
from pipeline.position import StepCounts
from riskbeat.learn_trace import LearnTraces

log = structlog.get_logger("learn")


class Heard:
    """Writes down what the loop does, in the log and in the metrics."""

    def __init__(
        self, metrics: LearnMetrics, tell: Callable[[], None], tracer: Tracer | None
    ) -> None:
        """Take the metrics, who tells what else was found in a step, and who keeps spans."""
        self._metrics = metrics
        self._tell = tell
        self._traces = None if tracer is None else LearnTraces(tracer)

    def stepped(self, counts: StepCounts, rejects: int, seconds: float) -> None:
        """One batch was taken in."""
        self._metrics.stepped(counts, rejects, seconds)
        self._tell()
        if self._traces is not None:
            self._traces.stepped(counts, seconds)
        if rejects:
            log.warning("learn.rejected", records=rejects)

    def published(self, done: Published) -> None:
        """A version is on the shelf."""
        self._metrics.published(done)
        if self._traces is not None:
            self._traces.published(done)
        shown = {name: round(value, 4) for name, value in done.figures.items()}
        log.info(
            "weights.published",
            weights_version=done.version,
            form="delta" if done.base else "full",
            size_bytes=done.size_bytes,
            **shown,
        )

    def freeze_changed(self, freeze: Freeze | None) -> None:
        """Versions are no longer made, or are made again."""
        self._metrics.freeze_changed(freeze)
        if freeze is None:
            log.warning("publishing.thawed")
        else:
            log.warning("publishing.frozen", cause=freeze.cause, by=freeze.by, why=freeze.why)
