"""settings → who goes along with the learner: the guard, the caps, the bound of a step."""

import structlog

from models.learner import Space
from models.weights import Weights
from pipeline.guard_metrics import GuardMetrics
from pipeline.judged import JudgeSink
from pipeline.step_ports import Company
from riskbeat.learn_safety import SafePublishing, make_guard, make_influence, step_bounds
from riskbeat.settings import Settings

log = structlog.get_logger("learn")


class Guarding:
    """The guard and its companions of one learner; `pipeline.learn_ports.Inspector`."""

    def __init__(
        self,
        settings: Settings,
        space: Space,
        sink: JudgeSink | None,
        metrics: GuardMetrics | None = None,
    ) -> None:
        """Begin without memory; the learning step restores what its checkpoint holds."""
        self._guard = make_guard(settings, space)
        self._publishing = SafePublishing(self._guard, step_bounds(settings))
        self._influence = make_influence(settings)
        self._sink = sink
        self._metrics = metrics
        self.company = Company(guard=self._guard, influence=self._influence, sink=sink)

    def hear_frozen(self, frozen: bool) -> None:
        """Hear whether publishing is frozen now; see the port."""
        self._guard.hear_frozen(frozen)

    def inspect(self, candidate: Weights, previous: Weights | None) -> tuple[Weights, list[str]]:
        """Return the version within a bounded step, and reasons against it; see the port."""
        weights, reasons = self._publishing.inspect(candidate, previous)
        if self._metrics is not None:
            self._metrics.watched(self._guard.gauges())
            self._metrics.capped(self._influence.counts())
            self._metrics.stepped(weights.step, weights.metrics)
        return weights, reasons

    def tell(self, clock_ms: int) -> None:
        """Write down what the guard found since the last call, and mark drifts on the curves."""
        for event in self._guard.take_events():
            log.warning(event.name, **event.fields)
            if self._sink is not None and event.name.startswith("drift"):
                words = [f"{name} {value}" for name, value in event.fields.items()]
                self._sink.mark(clock_ms, "drift", ", ".join(words))
