"""DecisionRecord → headers that make its record a CloudEvent (1.0) in binary mode."""

from features.event import from_ms
from models.decision import DecisionRecord

TYPE = b"riskbeat.decision.v1"
Headers = tuple[tuple[str, bytes], ...]


class Stamp:
    """Stamps decisions with where they come from."""

    def __init__(self, source: str) -> None:
        """Take the name of this deployment, a URI reference."""
        self._same = (
            ("ce_specversion", b"1.0"),
            ("ce_type", TYPE),
            ("ce_source", source.encode()),
            ("content-type", b"application/json"),
        )

    def headers_of(self, record: DecisionRecord) -> Headers:
        """Return a record's headers; the same for the same record."""
        decided_at = from_ms(record.decided_at_ms).isoformat(timespec="milliseconds")
        return (
            *self._same,
            ("ce_id", record.decision_id.encode()),
            ("ce_time", decided_at.encode()),
            ("ce_subject", record.event_id.encode()),
        )
