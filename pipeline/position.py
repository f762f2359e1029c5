"""where a learner stands, and what became of the records of a step."""

from dataclasses import dataclass, field

import msgspec

POSITION, SENDER = "position", "sender"
"""Names of their parts in a checkpoint."""


class Position(msgspec.Struct, kw_only=True):
    """Where the learner stands: the small part of every checkpoint.

    Attributes:
        offsets: "topic:partition" → next offset.
        version: Newest version made.
        sha256: Of its bytes; empty before the first.
        clock_ms: Largest event time decided.
        expired_ms: Event time at which the store was last cleared of old rows.
        labels_learned: Net labels taken in.
        learned_until_ms: Newest label time among them.
        judged: Predictions judged so far.
    """

    offsets: dict[str, int] = {}
    version: int = 0
    sha256: str = ""
    clock_ms: int = 0
    expired_ms: int = 0
    labels_learned: int = 0
    learned_until_ms: int = 0
    judged: int = 0


@dataclass(slots=True)
class StepCounts:
    """What became of the records of one step, by outcome; of those that are none, by code.

    Attributes:
        traces: Contexts of the decisions that were learned, and of the labels that came.
    """

    decisions: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    traces: list[str] = field(default_factory=list)

    def count(self, kind: dict[str, int], outcome: str, by: int = 1) -> None:
        """Add to an outcome."""
        if by:
            kind[outcome] = kind.get(outcome, 0) + by
