"""command line → ReplayRequest: what to replay, in values; light to import."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

AS_THEY_ARE: Final = "events"  # the mapping of logs that are events already
TOPIC_SCHEME: Final = "kafka:"


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What was asked for on the command line.

    Attributes:
        source: A file, or `kafka:` and topics.
        span_ms: Stop so long after the first event.
        http_url: Of a scorer; None sends to the topics.
    """

    source: str
    mapping: str
    speed: float | None = None
    barrier_ms: int | None = None
    limit_events: int | None = None
    until_ms: int | None = None
    span_ms: int | None = None
    http_url: str | None = None
    tail: bool = True
    resume: bool = True
    restart: bool = False
    progress_file: Path | None = None
    report: Path | None = None
