"""command line → BackfillRequest, SkewRequest: what to compute offline; light to import."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """What was asked for on the command line.

    Attributes:
        source: A file, or `kafka:` and topics.
        by_arrival: Take the log's own order instead of event time's.
        since_ms: First event time that is written.
        until_ms: First event time that is not written any more.
        temporary: Where temporary files go; the system's place if None.
    """

    source: str
    mapping: str
    out: Path
    workers: int
    spec_path: Path
    updates_partitions: int
    legit_after_ms: int
    data_dir: Path
    by_arrival: bool = False
    limit_events: int | None = None
    since_ms: int = 0
    until_ms: int = 2**62
    temporary: Path | None = None
    report: Path | None = None


@dataclass(frozen=True, slots=True)
class SkewRequest:
    """What was asked for on the command line.

    Attributes:
        decisions: A file of decision records; None reads the topic.
        log: A file of the events and label updates with their places; None reads the topics.
        since_ms: First time of decision that is compared.
        until_ms: First time of decision that is not compared any more.
        save: A folder that takes what was read from topics, to be compared again without them.
        out: Takes the report as JSON.
        plot: Takes the report as a picture.
    """

    spec_path: Path
    updates_partitions: int
    decisions: Path | None = None
    log: Path | None = None
    since_ms: int = 0
    until_ms: int = 2**62
    save: Path | None = None
    out: Path | None = None
    plot: Path | None = None
