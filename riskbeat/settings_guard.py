"""How far and how fast what is learned may go: steps, influence, drift, self-checks."""

from pydantic import Field
from pydantic_settings import BaseSettings

from models.guard_rules import GuardRules
from models.influence import InfluenceRules
from models.slew import StepBounds

_BOUNDS, _INFLUENCE, _GUARD = StepBounds(), InfluenceRules(), GuardRules()


class GuardSettings(BaseSettings):
    """Limits of the learner's steps."""

    step_mean_logit: float = Field(
        _BOUNDS.mean_logit,
        gt=0,
        description="Largest mean movement of log-odds on the probe between two versions",
    )
    step_max_logit: float = Field(
        _BOUNDS.max_logit, gt=0, description="Largest movement of any of the probe's log-odds"
    )
    step_free_labels: int = Field(
        _BOUNDS.free_labels, ge=0, description="Before so many labels no step is limited"
    )
    entity_share: float = Field(
        _INFLUENCE.entity_share,
        gt=0,
        le=1,
        description="Largest share of what is learned that one entity may carry",
    )
    source_share: float = Field(
        _INFLUENCE.source_share,
        gt=0,
        le=1,
        description="The same of a label source that is new or usually small",
    )
    drift_pace: float = Field(
        _GUARD.drift_pace,
        ge=1,
        le=10,
        description="Learning pace right after a drift; 1 does not react",
    )

    def step_bounds(self) -> StepBounds:
        """Return how far a version may go."""
        return StepBounds(
            mean_logit=self.step_mean_logit,
            max_logit=self.step_max_logit,
            free_labels=self.step_free_labels,
        )

    def influence_rules(self) -> InfluenceRules:
        """Return what one key may carry."""
        return InfluenceRules(entity_share=self.entity_share, source_share=self.source_share)

    def guard_rules(self) -> GuardRules:
        """Return what the guard is told."""
        return GuardRules(drift_pace=self.drift_pace)
