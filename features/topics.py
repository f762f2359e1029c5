"""The names of the topics, with which every door speaks of the same log."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one deployment, told apart by a prefix.

    Attributes:
        line: Whose versions are meant, of several lines of one spec; empty for the main one.
    """

    prefix: str = "riskbeat."
    line: str = ""

    @property
    def events(self) -> str:
        """Events, keyed by their primary entity."""
        return f"{self.prefix}events.v1"

    @property
    def label_updates(self) -> str:
        """Net transitions of events' labels, with their entities."""
        return f"{self.prefix}label_updates.v1"

    @property
    def updates(self) -> str:
        """Internal: per-entity updates, on explicit partitions; epoch 0."""
        return f"{self.prefix}updates.v1"

    @property
    def decisions(self) -> str:
        """Decisions with the vectors that were scored."""
        return f"{self.prefix}decisions.v1"

    @property
    def labels(self) -> str:
        """Labels as they became known."""
        return f"{self.prefix}labels.v1"

    def weights(self, spec_digest: str) -> str:
        """The full signed bytes of every version published for one feature spec."""
        line = f".{self.line}" if self.line else ""
        return f"{self.prefix}weights.v1.{spec_digest[:12]}{line}"

    @property
    def dead(self) -> str:
        """Rejected bytes, with the reason and where they came from."""
        return f"{self.prefix}dead.v1"

    @property
    def audit(self) -> str:
        """Acts on what answers are made with: who, when, what, why."""
        return f"{self.prefix}audit.v1"
