"""environment → how scorers follow the policy and its lists."""

from pydantic import Field
from pydantic_settings import BaseSettings


class PolicySettings(BaseSettings):
    """How fast a change is followed, and how long a starting scorer waits for what counts."""

    policy_poll_s: float = Field(
        0.5, ge=0.05, le=60, description="A change of policy, rule switch or list counts after it"
    )
    policy_wait_s: float = Field(
        15.0,
        ge=0,
        le=600,
        description="A starting scorer is not ready before policy and lists are read, or this",
    )
    list_entries_max: int = Field(
        5_000_000, ge=1, description="Entries of allow, deny and watch lists together"
    )
