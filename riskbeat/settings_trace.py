"""environment → what is traced, and where spans go."""

from pydantic import Field
from pydantic_settings import BaseSettings


class TraceSettings(BaseSettings):
    """Traces; off by default, and then they cost nothing."""

    trace_sample: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Of events that come without a `traceparent`, so much is traced; where they "
        "bring one, its sampled flag decides; 0 = nothing is traced at all",
    )
    trace_exporter: str | None = Field(
        None,
        description="Where spans go: `http://…` or `https://…` of an OTLP collector, or a file, a "
        "JSON line for each; required unless `RISKBEAT_TRACE_SAMPLE` is 0",
    )
