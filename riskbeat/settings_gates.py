"""environment → what scorers ask of a version before it answers, and how they compute."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings


class GateSettings(BaseSettings):
    """How far a version may lie from the one that answers, and in which numbers networks run.

    The limits hold for each version in between: a scorer that was away for ten may be ten times as
    far behind. An audited pin passes them all (docs/swaps.md).
    """

    gate_step_logit: float = Field(
        2.0, gt=0, le=100, description="Largest move of log-odds on a version's probe, at scorers"
    )
    gate_psi: float = Field(
        0.25, gt=0, le=100, description="Largest population stability index of recent scores"
    )
    gate_alert_share: float = Field(
        0.05, gt=0, lt=1, description="Highest recent scores that count as alerts at this gate"
    )
    gate_alert_ratio: float = Field(
        3.0, gt=1, le=100, description="The next version may alert so many times as often, or less"
    )
    gate_free_labels: int = Field(
        5_000, ge=0, description="Labels learned before versions are held to these limits"
    )
    gate_rows_min: int = Field(
        128, ge=16, le=256, description="Recent vectors before their scores are compared"
    )
    scorer_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="Numbers that networks compute in; bfloat16 within 0.03 of log-odds"
    )
