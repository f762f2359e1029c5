"""environment → how long and how much of past decisions can be looked up."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings

DAY_S = 86_400.0
MIB = 1024 * 1024


class LookupSettings(BaseSettings):
    """The index behind `GET /v1/decisions/{id}`."""

    lookup_index: bool = Field(
        True, description="Off: this machine keeps no index, and decisions cannot be looked up"
    )
    lookup_path: Path | None = Field(
        None,
        description="SQLite file that the scorers of a machine share; "
        "`lookup/decisions.sqlite` in the data directory if absent",
    )
    lookup_horizon_s: float = Field(
        60 * DAY_S, gt=0, description="Decisions older than this leave the index"
    )
    lookup_max_bytes: int = Field(
        2048 * MIB, ge=MIB, description="Bound of the index; beyond it the oldest leave first"
    )
