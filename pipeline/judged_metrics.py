"""figures of judged predictions → gauges of the learner's metrics page; `judged.JudgeWatch`."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from models.evaluation import FIGURES
from pipeline.judged import Horizon


class JudgeMetrics:
    """What the learner's page says of each predictor.

    Predictors are those of the configuration, figures those of `models.evaluation.FIGURES`,
    horizons two: closed sets.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        """Add to the registry of the learner's metrics."""
        self.figures = Gauge(
            "riskbeat_predictor_judgement",
            "Delay-aware figures of a predictor, over the newest judged rows or the newest whole "
            "event day.",
            ["predictor", "horizon", "figure"],
            registry=registry,
        )
        self.days = Counter(
            "riskbeat_judged_days",
            "Event days whose figures were worked out, by predictor.",
            ["predictor"],
            registry=registry,
        )

    def judged(self, predictor: str, horizon: Horizon, figures: dict[str, float]) -> None:
        """Figures of the newest rows, or of the newest whole event day."""
        for figure in FIGURES:
            value = figures.get(figure, float("nan"))
            self.figures.labels(predictor, horizon, figure).set(value)
        if horizon == "day":
            self.days.labels(predictor).inc()
