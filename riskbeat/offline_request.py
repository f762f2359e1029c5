"""command line → BackfillRequest, SkewRequest, EvaluateRequest: what to compute offline."""

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


@dataclass(frozen=True, slots=True)
class EvaluateRequest:
    """What was asked for on the command line.

    Attributes:
        files: Parquet files of judged rows; none reads those of the data directory.
        topics: Judge the decisions topic by the labels topic instead.
        mature_ms: Event time after which an event counts as known; of the topics.
        since_ms: First event time that counts.
        until_ms: First event time that does not count any more.
        out: Takes the report as HTML; None: no report.
        as_json: Print all of it as JSON instead of a table.
        policy: Whose bounds are shown; None: nobody's.
        false_alarm: What an alert about an honest payment costs, in minor units.
        review: What looking into any alert costs.
    """

    files: tuple[Path, ...]
    topics: bool
    mature_ms: int
    data_dir: Path
    since_ms: int
    until_ms: int
    out: Path | None
    as_json: bool
    policy: Path | None
    false_alarm: float
    review: float
