"""settings → who goes along with the learner: the guard, the caps, the bound of a step."""

import structlog

from models.drift_river import Adwin
from models.formula_torch import TorchFormula
from models.guard import Guard
from models.influence import Influence
from models.learner import Space
from models.slew import bounded
from models.weights import Weights
from pipeline.judged import JudgeSink
from pipeline.step_ports import Company
from riskbeat.settings import Settings

log = structlog.get_logger("learn")


class Guarding:
    """The guard and its companions of one learner; `pipeline.learn_ports.Inspector`."""

    def __init__(self, settings: Settings, space: Space, sink: JudgeSink | None) -> None:
        """Begin without memory; the learning step restores what its checkpoint holds."""
        self._guard = Guard(settings.guard_rules(), space, Adwin)
        self._bounds = settings.step_bounds()
        self._formula = TorchFormula()
        self._sink = sink
        self.company = Company(
            guard=self._guard,
            influence=Influence(settings.influence_rules(), settings.learn_seed),
            sink=sink,
        )

    def hear_frozen(self, frozen: bool) -> None:
        """Hear whether publishing is frozen now; see the port."""
        self._guard.hear_frozen(frozen)

    def inspect(self, candidate: Weights, previous: Weights | None) -> tuple[Weights, list[str]]:
        """Return the version within a bounded step, and reasons against it; see the port."""
        reasons = self._guard.inspect(candidate, previous, candidate.metrics, None)
        return bounded(previous, candidate, self._bounds, self._formula), reasons

    def tell(self, clock_ms: int) -> None:
        """Write down what the guard found since the last call, and mark drifts on the curves."""
        for event in self._guard.take_events():
            log.warning(event.name, **event.fields)
            if self._sink is not None and event.name.startswith("drift"):
                words = [f"{name} {value}" for name, value in event.fields.items()]
                self._sink.mark(clock_ms, "drift", ", ".join(words))
