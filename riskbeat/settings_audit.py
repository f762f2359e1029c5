"""environment → how long acts are remembered."""

from pydantic import Field
from pydantic_settings import BaseSettings

AUDIT_RETENTION_S = 400 * 86_400.0
"""A year, which card schemes ask for, and the time to look."""


class AuditSettings(BaseSettings):
    """The log of acts on policy, lists, weights, rollouts and keys."""

    audit_retention_s: float = Field(
        AUDIT_RETENTION_S, gt=0, description="Of `audit.v1`: how long acts are remembered"
    )
