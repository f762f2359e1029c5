"""environment → how candidates are rolled out: steps, limits, shadows."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings

from models.rollout import MAIN
from models.rollout_limits import Limits

Percent = Annotated[float, Field(ge=0, le=100)]
_LIMITS = Limits()


class RolloutSettings(BaseSettings):
    """What `riskbeat rollout start` takes where it is not told, and how workers go along.

    Limits are written into a rollout when it starts; a later change concerns the next one.
    """

    learn_line: str = Field(
        MAIN,
        pattern=r"^[a-z][a-z0-9_-]{0,63}$",
        description="Line of versions that a learner publishes, and that `riskbeat model` acts on. "
        "A challenger's learner needs one of its own, and a model name of its own",
    )
    rollout_steps: tuple[Percent, ...] = Field(
        (0.0, 1.0, 5.0, 25.0, 100.0),
        min_length=1,
        max_length=20,
        description="JSON list of percent of the entities, growing; 0 is a shadow",
    )
    rollout_bake_s: float = Field(
        3600.0, ge=0, le=30 * 86_400, description="Shortest stay at a step"
    )
    rollout_decisions_min: int = Field(
        1_000, ge=0, description="Answers of the candidate that it takes to leave a step"
    )
    rollout_patience_s: float = Field(
        86_400.0, ge=0, description="A step without them so long after its bake turns back"
    )
    rollout_poll_s: float = Field(
        1.0, gt=0, le=60, description="A scorer reads the state, and reports, this often"
    )
    rollout_blind_s: float = Field(
        30.0, gt=0, le=3600, description="Without the state so long, no candidate answers"
    )
    rollout_report_ttl_s: float = Field(
        30.0, gt=0, le=3600, description="A silent scorer's counts are added for so long"
    )
    rollout_shadow_budget_s: float = Field(
        0.005, ge=0, le=1, description="Shadows that are expected to take longer are skipped"
    )
    rollout_shadow_until_s: float = Field(
        0.040, ge=0, le=30, description="So long after a batch began no shadow is scored"
    )
    rollout_compare_min: int = Field(
        _LIMITS.compare_min, ge=1, description="Decisions of both arms before they are compared"
    )
    rollout_fallback_rate: float = Field(
        _LIMITS.fallback_rate, gt=0, le=1, description="Events that a candidate may fail to answer"
    )
    rollout_degraded_rate: float = Field(
        _LIMITS.degraded_rate, gt=0, le=1, description="By which it may be degraded more often"
    )
    rollout_model_ms_ratio: float = Field(
        _LIMITS.model_ms_ratio, gt=1, description="Its forward pass against the other, at p99"
    )
    rollout_model_ms_free: float = Field(
        _LIMITS.model_ms_free, ge=0, description="Milliseconds that it may take in any case"
    )
    rollout_psi: float = Field(
        _LIMITS.psi, gt=0, description="Population stability index of scores between the arms"
    )
    rollout_alert_ratio: float = Field(
        _LIMITS.alert_ratio, gt=1, description="Rates of alerts, upwards and downwards"
    )
    rollout_judged_min: int = Field(
        _LIMITS.judged_min, ge=1, description="Judged frauds of both arms before these three"
    )
    rollout_recall_drop: float = Field(
        _LIMITS.recall_drop, gt=0, le=1, description="By which it may find fewer frauds"
    )
    rollout_precision_drop: float = Field(
        _LIMITS.precision_drop, gt=0, le=1, description="By which its alerts may be right less"
    )
    rollout_average_precision_drop: float = Field(
        _LIMITS.average_precision_drop, gt=0, le=1, description="By which it may rank worse"
    )

    @property
    def line(self) -> str:
        """The name of this line in keys and topics; the main one has none."""
        return "" if self.learn_line == MAIN else self.learn_line

    @property
    def rollout_limits(self) -> Limits:
        """The limits of a rollout that starts now."""
        return Limits(
            compare_min=self.rollout_compare_min,
            fallback_rate=self.rollout_fallback_rate,
            degraded_rate=self.rollout_degraded_rate,
            model_ms_ratio=self.rollout_model_ms_ratio,
            model_ms_free=self.rollout_model_ms_free,
            psi=self.rollout_psi,
            alert_ratio=self.rollout_alert_ratio,
            judged_min=self.rollout_judged_min,
            recall_drop=self.rollout_recall_drop,
            precision_drop=self.rollout_precision_drop,
            average_precision_drop=self.rollout_average_precision_drop,
        )
