"""environment → the limits that keep learning safe: steps, shares, drift, causes of a freeze.

Part of `riskbeat.settings.Settings`; docs/model-safety.md says what each bounds and what it costs.
"""

from pydantic import Field
from pydantic_settings import BaseSettings

DAY_S = 86_400.0


class SafetySettings(BaseSettings):
    """How far a version may move, what one key may teach, and when publishing freezes."""

    step_mean_logit: float = Field(
        0.05, gt=0, le=100, description="Mean move of log-odds on the probe from version to version"
    )
    step_max_logit: float = Field(
        1.0, gt=0, le=100, description="Largest move of log-odds of any row of the probe"
    )
    step_free_labels: int = Field(
        5_000, ge=0, description="Labels learned before steps, norms and figures are bounded"
    )
    influence_entity_share: float = Field(
        0.05, gt=0, le=1, description="Largest share of what is learned that one entity may carry"
    )
    influence_entity_free: float = Field(
        16.0, ge=0, description="Rows that any entity may carry, however little else is learned"
    )
    influence_source_share: float = Field(
        0.25, gt=0, le=1, description="The same of a label source that is new or usually small"
    )
    influence_source_growth: float = Field(
        2.0, ge=1, description="A source may carry so many times its usual share, if that is more"
    )
    influence_source_free: float = Field(
        256.0, ge=0, description="Rows that any source may carry, however little else is learned"
    )
    influence_memory_rows: float = Field(
        8_192.0, ge=256, description="Newest learned rows over which these shares are held"
    )
    drift_significance: float = Field(
        0.002, gt=0, lt=1, description="δ of ADWIN on scores and on precision; smaller is calmer"
    )
    drift_after_rows: int = Field(
        20_000, ge=0, description="Decided rows before drift is acted on: a warm-up is no drift"
    )
    drift_pace: float = Field(
        3.0, ge=1, le=100, description="Learning pace right after a drift; 1 does not react"
    )
    drift_half_life_s: float = Field(
        6 * 3600.0, gt=0, description="Event time in which that pace wears off by half"
    )
    alert_share: float = Field(
        0.01, gt=0, lt=1, description="Highest scores whose precision is watched for drift"
    )
    health_norm_factor: float = Field(
        3.0, gt=1, description="A member's norm beyond so many times its usual one freezes"
    )
    health_fall: float = Field(
        0.4, gt=0, lt=1, description="Loss of the delay-aware figures, as a part, that freezes"
    )
    health_judged_min: int = Field(
        2_000, ge=100, description="Judged predictions that such a loss must rest on"
    )
    health_frauds_min: int = Field(30, ge=5, description="Frauds among them")
    health_best_half_life_s: float = Field(
        60 * DAY_S, gt=0, description="Event time in which the best of late loses half its claim"
    )
    label_rate_z: float = Field(
        8.0, ge=3, description="Standard deviations by which a source's hour is a flood"
    )
    label_burst_min: int = Field(
        100, ge=1, description="Labels of one source within an hour that are never too many"
    )
    label_share_shift: float = Field(
        0.2, gt=0, lt=1, description="Change of a source's share of frauds that freezes"
    )
