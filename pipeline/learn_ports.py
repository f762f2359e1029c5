"""What the learner's loop needs of the world, as it sees it."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from features.event import EventRejected
from models.registry import Freeze
from models.weights import Weights
from pipeline.join import Outgoing
from pipeline.position import StepCounts


class Taken(NamedTuple):
    """One record of the log.

    Attributes:
        trace: Its context, if it is traced.
    """

    kind: Literal["decision", "label"]
    topic: str
    partition: int
    offset: int
    appended_ms: int
    body: bytes
    trace: str = ""


class Polled(NamedTuple):
    """What one poll gave.

    Attributes:
        offsets: "topic:partition" → next offset after these records; only those that moved.
        caught_up: There was nothing more to take at that moment.
    """

    records: Sequence[Taken]
    offsets: dict[str, int]
    caught_up: bool


class LearnLog(Protocol):
    """The log as the learner uses it. Every send returns when all is acknowledged, or raises.

    Implementation: `learn_kafka.KafkaLearnLog`.
    """

    async def start_at(self, offsets: dict[str, int]) -> None:
        """Read on from these offsets; partitions without one from their start."""

    async def poll(self, timeout_s: float) -> Polled:
        """Return the next records, in the order of their append as far as it is known."""

    async def reject_many(self, rejects: Sequence[tuple[Taken, EventRejected]]) -> None:
        """Send dead letters."""

    async def send_transitions(self, records: Sequence[Outgoing]) -> None:
        """Send label transitions, in order, each to its partition."""

    async def send_weights(self, version: int, data: bytes) -> None:
        """Append a version to the weights topic, in pieces where it is too large for a record."""

    async def send_cuts(self, version: int, page: int, body: bytes) -> None:
        """Append a page of cuts of the version that will have this number."""

    async def last_weights_version(self) -> int:
        """Return the newest version that the weights topic holds whole; 0 for none."""

    async def read_weights(self, first: int, last: int) -> dict[int, bytes]:
        """Return those versions of a range that the weights topic still holds whole.

        And those before it that their chains need, back to a full version.
        """


class Published(NamedTuple):
    """What became of a version.

    Attributes:
        base: 0 for a full version, else what it is a delta to.
        seconds: From the beginning of its making until scorers could have it.
        label_waits_s: Of the labels first learned by it: from append until then.
        figures: Progressive evaluation at that moment.
        sha256: Of its bytes.
    """

    version: int
    base: int
    size_bytes: int
    created_at_ms: int
    seconds: float
    label_waits_s: Sequence[float]
    figures: Mapping[str, float]
    sha256: str = ""


class Inspector(Protocol):
    """Who looks at every version before it is made; `riskbeat.guarding.Guarding`."""

    def hear_frozen(self, frozen: bool) -> None:
        """Hear whether publishing is frozen now: before every look, and when it was just frozen.

        So it knows when an operator thawed, having seen its reasons.
        """

    def inspect(self, candidate: Weights, previous: Weights | None) -> tuple[Weights, list[str]]:
        """Return the version to publish instead, and reasons against publishing at all.

        What it returns follows from what was learned: only the reasons may depend on freezes.
        """


class LearnWatch(Protocol):
    """Who is told what the loop does; `pipeline.metrics.LearnMetrics`."""

    def stepped(self, counts: StepCounts, rejects: int, seconds: float) -> None:
        """One batch was taken in."""

    def published(self, done: "Published") -> None:
        """A version is on the shelf."""

    def freeze_changed(self, freeze: Freeze | None) -> None:
        """Versions are no longer made, or are made again (None)."""
