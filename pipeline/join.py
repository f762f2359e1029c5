"""decisions and labels → net labels and their transitions: what an event turned out to be.

Each source's newest statement about an event counts (by label time, then place in the log). Of
those, any confirmed fraud makes the event fraud, from the earliest such label time on; otherwise a
confirmed legit, or silence, makes it legit. A suspicion makes nothing, but breaks the silence. So
the net label is a function of the *set* of labels seen, in whatever order they came.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

import msgspec

from features.event import Label, decision_id, from_ms
from features.update import LabelTransition

PLACE_BITS = 48
SILENCE = "silence"
"""The source of a net label that nobody stated."""
AGAIN = "again"
"""Part of a checkpoint that says: what was learned is gone, and rows are due to teach it again."""
_TWO_63 = 1 << 63


class JoinBusy(RuntimeError):
    """Another process holds the join store: one learner per data directory."""


class Net(NamedTuple):
    """What an event is taken to be, and since when (label time, ms)."""

    fraud: bool
    time_ms: int


class Statement(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One source's label: the part of it that the join keeps.

    Attributes:
        place: Partition and offset in the labels topic, as `place_of` packs them.
    """

    source: str
    fraud: bool
    state: Literal["confirmed", "suspected", "reversed"]
    time_ms: int
    place: int


class Subject(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a transition must say about its event."""

    tenant: str
    event_type: str
    event_id: str
    entities: dict[str, str]


class TracedSubject(Subject, frozen=True, array_like=True, gc=False):
    """The same of an event whose decision is traced; read as a `Subject` it is one.

    Attributes:
        trace: Context of the decision.
    """

    trace: str = ""


@dataclass(slots=True, eq=False)
class JoinRow:
    """One decided event, waiting for what it will turn out to be.

    Attributes:
        key: Identity hash as a signed 64-bit integer.
        name: Identity.
        place: Of its decision in the log; of two decisions on one event the lowest counts.
        x: Vector as little-endian float32; None when it cannot be learned from.
        p: Probability that it was given; None when no model answered.
        amount: Minor units of the base currency; 0 without.
        statements: Newest of each source.
        net: Net label; None = not known yet.
        turns: Transitions made so far; numbers them.
        matured: Event time has passed the silence: no news is good news.
        outcome: What was decided.
        propensity: Chance with which that was drawn; 1 where it was not.
        weights_version: Of the model that scored; 0 without.
        beliefs: Log-odds of the learner's predictors when it took the decision in, little-endian
            float32; None without a vector.
        card: Hash of the primary entity as a signed 64-bit integer; 0 without.
        arm: Of which rollout it was decided, as in `3/candidate`; empty for none.
        source: That the net label rests on; `SILENCE` for none; empty without a net label.
        taught: Label that each lane was taught, where it was.
    """

    key: int
    name: str
    event_ms: int
    place: int
    x: bytes | None
    subject: bytes
    p: float | None
    amount: int
    statements: tuple[Statement, ...] = ()
    net: Net | None = None
    turns: int = 0
    matured: bool = False
    outcome: str = "approve"
    propensity: float = 1.0
    weights_version: int = 0
    beliefs: bytes | None = None
    card: int = 0
    arm: str = ""
    source: str = ""
    taught: dict[str, bool] = field(default_factory=dict)


class Outgoing(NamedTuple):
    """One record of the outbox: for `partition` of the label updates topic, numbered in it."""

    partition: int
    seq: int
    key: bytes
    body: bytes


class Expired(NamedTuple):
    """What left the store because its time or its room was over."""

    rows: int
    held_labels: int


class JoinStore(Protocol):
    """Where decisions wait for labels, labels for decisions, and transitions for the log.

    All writes belong to one open transaction; `commit` makes them durable together, and a crash
    before it leaves what the last commit left. One process at a time.
    Implementation: `join_sqlite.SqliteJoinStore`.
    """

    def add_many(self, rows: Sequence[JoinRow]) -> list[JoinRow]:
        """Keep decided events; return those that were new.

        A known event is replaced when the new decision's place is lower and no label was settled
        on it; it is not returned.
        """

    def find_many(self, keys: Sequence[int]) -> dict[int, JoinRow]:
        """Return the rows that exist, by key."""

    def settle_many(self, rows: Sequence[JoinRow]) -> None:
        """Keep what became of known rows: all from `statements` to `matured`, source, taught."""

    def due_rows(self, until_ms: int, limit: int) -> list[JoinRow]:
        """Return rows that have not matured, of event time up to `until_ms`, oldest first."""

    def hold_many(self, labels: Sequence[tuple[int, Statement]]) -> None:
        """Keep labels whose decision has not come yet."""

    def take_held(self, keys: Sequence[int]) -> list[tuple[int, Statement]]:
        """Remove and return held labels of these keys, by place."""

    def send_later(self, partition: int, key: bytes, transition: LabelTransition) -> None:
        """Put a transition into the outbox; its `seq` is set to the partition's next."""

    def outbox(self, limit: int) -> list[Outgoing]:
        """Return the oldest records that have not been marked as sent, in order of number."""

    def mark_sent(self, records: Sequence[Outgoing]) -> None:
        """Drop sent records; durable with the next commit, so some may be sent twice."""

    def expire(self, before_ms: int) -> Expired:
        """Drop rows and held labels older than that, and the oldest beyond the store's room.

        Room is a number of rows, of held labels, and of bytes in rows and all that hangs on them.
        """

    def commit(self, parts: Mapping[str, bytes]) -> None:
        """Write named parts of a checkpoint over those of the same name; make all durable."""

    def forget_learned(self, parts: Mapping[str, bytes], *, keep_vectors: bool = False) -> None:
        """Put `parts` in place of all parts, for a learner that begins anew; make it durable.

        Args:
            parts: What is kept of the checkpoint.
            keep_vectors: False drops every vector and prediction: they were another spec's. True
                makes every row due again, so that it is taught again when it is settled.
        """

    def keep_judged(self, rows: Sequence[bytes]) -> None:
        """Append judged rows, under numbers that begin at 1 and are never used again."""

    def judged(self, after_seq: int, limit: int) -> list[tuple[int, bytes]]:
        """Return the oldest judged rows numbered above `after_seq`, by number."""

    def drop_judged(self, upto_seq: int) -> None:
        """Drop judged rows numbered up to this one."""

    def parts(self) -> dict[str, bytes]:
        """Return the newest of every part ever committed; empty at first."""


def place_of(partition: int, offset: int) -> int:
    """Return a number that orders places in a topic by (partition, offset)."""
    return partition << PLACE_BITS | offset


def signed(value: int) -> int:
    """Return an unsigned 64-bit number as the signed one of the same bits."""
    return value - (1 << 64) if value >= _TWO_63 else value


def statement_of(label: Label, place: int) -> Statement:
    """Return what the join keeps of a label."""
    fraud = label.label == "fraud"
    return Statement(label.source, fraud, label.state, label.label_time_ms, place)


def merge(known: tuple[Statement, ...], news: Iterable[Statement]) -> tuple[Statement, ...]:
    """Return the newest statement of each source, ordered by source."""
    newest = {statement.source: statement for statement in known}
    for statement in news:
        before = newest.get(statement.source)
        if before is None or (statement.time_ms, statement.place) > (before.time_ms, before.place):
            newest[statement.source] = statement
    return tuple(newest[source] for source in sorted(newest))


def net_of(statements: Sequence[Statement], silent_since_ms: int | None) -> Net | None:
    """Return the net label of an event.

    Args:
        statements: Newest of each source.
        silent_since_ms: When silence made it legit; None while it has not matured.
    """
    frauds = [s.time_ms for s in statements if s.state == "confirmed" and s.fraud]
    if frauds:
        return Net(True, min(frauds))
    legits = [s.time_ms for s in statements if s.state == "confirmed"]
    suspected = any(s.state == "suspected" and s.fraud for s in statements)
    if silent_since_ms is not None and not suspected:
        legits.append(silent_since_ms)
    return Net(False, min(legits)) if legits else None


def source_of(row: JoinRow) -> str:
    """Return the source that a row's net label rests on: the earliest that says so, by name."""
    net = row.net
    if net is None:
        return ""
    said = [
        s.source
        for s in row.statements
        if (s.state, s.fraud, s.time_ms) == ("confirmed", net.fraud, net.time_ms)
    ]
    return min(said, default=SILENCE)


def traces_of(rows: Iterable[JoinRow]) -> list[str]:
    """Return the contexts of those decisions that are traced."""
    found = (msgspec.msgpack.decode(row.subject, type=TracedSubject).trace for row in rows)
    return [trace for trace in found if trace]


def transitions_of(row: JoinRow, after: Net | None) -> list[LabelTransition]:
    """Return what leads from the row's net label to `after`: at most a removal and an addition.

    They are numbered onwards from `row.turns`, and carry seq 1 until the outbox sets it.
    """
    subject = msgspec.msgpack.decode(row.subject, type=Subject)
    steps = [(net, sign) for net, sign in ((row.net, -1), (after, 1)) if net is not None]
    return [
        LabelTransition(
            event_type=subject.event_type,
            event_id=subject.event_id,
            entities=subject.entities,
            label_time=from_ms(net.time_ms),
            label="fraud" if net.fraud else "legit",
            sign=1 if sign > 0 else -1,
            seq=1,
            transition_id=f"{decision_id(row.name)}:{row.turns + turn}",
            tenant=subject.tenant,
        )
        for turn, (net, sign) in enumerate(steps, start=1)
    ]
