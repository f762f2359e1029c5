"""When the scorer stops asking what does not answer."""

from pydantic import Field
from pydantic_settings import BaseSettings


class BreakerSettings(BaseSettings):
    """Limits of one decision's stages, and of the breakers around them."""

    model_timeout_s: float = Field(
        0.025, gt=0, le=10, description="A batch that took the model longer counts as its failure"
    )
    breaker_failures: int = Field(
        5, ge=1, le=1000, description="Failures in a row after which a stage is not asked"
    )
    breaker_pause_s: float = Field(
        0.5, gt=0, le=60, description="Between two looks whether it answers again"
    )
