"""environment → the limits of a scorer."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings

DAY_S = 86_400.0
MIB = 1024 * 1024


class ServeSettings(BaseSettings):
    """Limits of the scorer."""

    http_host: str = Field("127.0.0.1", description="Address that HTTP listens on")
    http_port: int = Field(8000, ge=0, le=65_535, description="Port that HTTP listens on")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs")
    features_timeout_s: float = Field(0.025, gt=0, le=10, description="Wait for features")
    read_timeout_s: float = Field(
        1.0, gt=0, le=30, description="Wait of a question about features for the store; then 503"
    )
    stale_after_s: float = Field(
        5.0, gt=0, le=3600, description="Features read from an older state are called stale"
    )
    deadline_s: float = Field(0.080, gt=0, le=30, description="Wait of a whole request")
    overlay_s: float = Field(
        2.0, ge=0, le=60, description="A scorer re-applies its own events of this long"
    )
    overlay_max_events: int = Field(
        20_000, ge=0, description="At most so many of them; the oldest leave first"
    )
    overlay_max_rows: int = Field(64, ge=1, description="At most so many of one entity, the newest")
    queue_max_requests: int = Field(2_048, ge=1, description="Waiting requests before refusal")
    batch_max_requests: int = Field(256, ge=1, le=4096, description="Requests scored together")
    idempotency_window_s: float = Field(
        DAY_S, gt=0, description="A repeated request gets its first answer for this long"
    )
    claim_ttl_s: float = Field(
        5.0, gt=0, le=600, description="A request that was never answered may be repeated after it"
    )
    ack_timeout_s: float = Field(
        0.040, gt=0, le=30, description="Wait for the log before an answer goes to the spool"
    )
    spool_max_bytes: int = Field(
        256 * MIB, ge=MIB, description="Answers on disk while the log is away; beyond it: 503"
    )
    stream_batch_events: int = Field(
        512, ge=1, le=4096, description="Events of the stream scored together"
    )
    stream_features_timeout_s: float = Field(
        2.0, gt=0, le=60, description="The stream's wait for features before it decides without"
    )
    stream_ack_timeout_s: float = Field(
        30.0, gt=0, le=600, description="The stream stops when a batch is not recorded by then"
    )
    decisions_source: str | None = Field(
        None,
        pattern=r"^[\x21-\x7e]{1,256}$",
        description="URI that names this deployment; decisions then bear the headers of a "
        "CloudEvent, with it as `source`",
    )
    weights_poll_s: float = Field(
        0.5, gt=0, le=60, description="A lost notice of new weights costs at most this"
    )
    first_weights_wait_s: float = Field(
        15.0, ge=0, le=600, description="A starting scorer is not ready before weights or this"
    )
