"""environment → how predictions are judged; a part of `settings.Settings`."""

from pydantic import Field
from pydantic_settings import BaseSettings


class JudgeSettings(BaseSettings):
    """How predictions are judged, and how long judgements are kept."""

    evaluation_rows: int = Field(
        20_480, ge=100, le=1_000_000, description="Newest judged rows that rolling figures speak of"
    )
    evaluation_file_rows: int = Field(
        20_000, ge=100, le=1_000_000, description="Judged rows of a full Parquet file"
    )
    evaluation_write_s: float = Field(
        30.0, gt=0, le=3600, description="A file that is not full is written again this often"
    )
    evaluation_days: int = Field(
        180, ge=1, le=3660, description="Event days whose judged rows stay on disk"
    )
    cost_false_alarm: int = Field(
        1_000, ge=0, description="What an alert about an honest payment costs (minor units)"
    )
    cost_review: int = Field(
        300, ge=0, description="What looking into any alert costs (minor units)"
    )
