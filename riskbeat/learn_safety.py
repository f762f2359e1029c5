"""settings → the guard, the caps and the limiter of a learner, put together."""

from collections.abc import Mapping

from models.drift_river import Adwin
from models.formula_torch import TorchFormula
from models.guard import Guard
from models.guard_rules import GuardRules
from models.health import HealthRules
from models.influence import Influence, InfluenceRules
from models.label_rates import RateRules
from models.learner import Space
from models.slew import StepBounds, answered, bounded
from models.weights import Weights
from riskbeat.settings_safety import SafetySettings


class SafePublishing:
    """Looks at every version before it is made: reasons against it, and a bounded one instead."""

    def __init__(self, guard: Guard, bounds: StepBounds) -> None:
        """Take the guard, whose state is kept by its owner's checkpoint."""
        self._guard = guard
        self._bounds = bounds
        self._formula = TorchFormula()
        self.reference: Mapping[str, float] | None = None

    def inspect(self, candidate: Weights, previous: Weights | None) -> tuple[Weights, list[str]]:
        """Return the version to publish instead, and reasons against publishing at all.

        `reference`, the figures of a version that was pinned or blessed, may be set at any time.
        """
        candidate = answered(candidate, self._formula)
        reasons = self._guard.inspect(candidate, previous, candidate.metrics, self.reference)
        return bounded(previous, candidate, self._bounds, self._formula), reasons


def make_guard(settings: SafetySettings, space: Space) -> Guard:
    """Return a guard without memory, with River's detectors."""
    rules = GuardRules(
        significance=settings.drift_significance,
        drift_after_rows=settings.drift_after_rows,
        drift_pace=settings.drift_pace,
        drift_half_life_ms=settings.drift_half_life_s * 1000,
        alert_share=settings.alert_share,
        health=HealthRules(
            free_labels=settings.step_free_labels,
            norm_factor=settings.health_norm_factor,
            fall=settings.health_fall,
            judged_min=settings.health_judged_min,
            frauds_min=settings.health_frauds_min,
            best_half_life_ms=settings.health_best_half_life_s * 1000,
        ),
        rates=RateRules(
            z=settings.label_rate_z,
            burst_min=settings.label_burst_min,
            share_shift=settings.label_share_shift,
        ),
    )
    return Guard(rules, space, Adwin)


def make_influence(settings: SafetySettings) -> Influence:
    """Return the caps per source and entity, with empty books."""
    rules = InfluenceRules(
        entity_share=settings.influence_entity_share,
        entity_free=settings.influence_entity_free,
        source_share=settings.influence_source_share,
        source_growth=settings.influence_source_growth,
        source_free=settings.influence_source_free,
        memory_rows=settings.influence_memory_rows,
        warm_rows=float(settings.step_free_labels),
    )
    return Influence(rules)


def step_bounds(settings: SafetySettings) -> StepBounds:
    """Return how far answers may move from one version to the next."""
    return StepBounds(
        mean_logit=settings.step_mean_logit,
        max_logit=settings.step_max_logit,
        free_labels=settings.step_free_labels,
    )
