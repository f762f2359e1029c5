"""What the learner's guard, caps and limiter count and measure, for Prometheus.

They stand on the learner's page, in the registry of `pipeline.metrics.LearnMetrics`.
"""

import math
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from models.guard_rules import Gauges
from models.slew import ALPHA
from models.weights import Step

STEP_KINDS = ("mean_logit", "max_logit", "max_p")
PSI_TOP = 20
"""Features that are shown: those that moved most. A spec has hundreds, and most stand still."""


class GuardMetrics:
    """Drift, causes of a freeze, sizes of steps, rows left out."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Make them in the learner's registry."""
        self.drifts = Gauge(
            "riskbeat_drifts_found",
            "Drifts found since the learner first began, by watched stream.",
            ["stream"],
            registry=registry,
        )
        self.means = Gauge(
            "riskbeat_drift_stream_mean",
            "Mean of a watched stream over the rows that its detector still counts.",
            ["stream"],
            registry=registry,
        )
        self.widths = Gauge(
            "riskbeat_drift_stream_rows",
            "Rows that the detector of a watched stream still counts.",
            ["stream"],
            registry=registry,
        )
        self.psi = Gauge(
            "riskbeat_feature_psi",
            "Population stability index of the features that moved most, of the newest whole day.",
            ["feature"],
            registry=registry,
        )
        self.pace = Gauge(
            "riskbeat_learning_pace", "Learning pace; 1 is the usual one.", registry=registry
        )
        self.causes = Gauge(
            "riskbeat_publishing_cause",
            "Whether a self-check speaks against publishing, by kind of cause.",
            ["cause"],
            registry=registry,
        )
        self.step = Gauge(
            "riskbeat_weights_step",
            "Movement of the probe's answers by the newest version, by measure.",
            ["measure"],
            registry=registry,
        )
        self.way = Gauge(
            "riskbeat_weights_step_ratio",
            "Part of the way to the learner's state that the newest version went; 1 is all of it.",
            registry=registry,
        )
        self.left_out = Counter(
            "riskbeat_labels_capped",
            "Labelled rows that were not learned because of a cap, by kind of key.",
            ["key"],
            registry=registry,
        )
        self._left_out: dict[str, int] = {"entity": 0, "source": 0}
        for key in self._left_out:
            self.left_out.labels(key)
        for measure in STEP_KINDS:
            self.step.labels(measure)

    def watched(self, gauges: Gauges) -> None:
        """Show what the guard knows."""
        for shown, values in (
            (self.drifts, gauges.drifts),
            (self.means, gauges.means),
            (self.widths, gauges.widths),
            (self.causes, gauges.causes),
        ):
            for label, value in values.items():
                shown.labels(label).set(value)
        self.pace.set(gauges.pace)
        known = [(value, name) for name, value in gauges.psi.items() if not math.isnan(value)]
        self.psi.clear()
        for value, name in sorted(known, reverse=True)[:PSI_TOP]:
            self.psi.labels(name).set(value)

    def stepped(self, step: Step, figures: Mapping[str, float]) -> None:
        """Show how far a version moved."""
        for measure in STEP_KINDS:
            self.step.labels(measure).set(getattr(step, measure))
        self.way.set(figures.get(ALPHA, 1.0))

    def capped(self, counts: Mapping[str, int]) -> None:
        """Take the totals of `Influence.counts`."""
        for key, total in counts.items():
            self.left_out.labels(key).inc(max(0, total - self._left_out[key]))
            self._left_out[key] = total
