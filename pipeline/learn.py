"""decisions, labels → a changed learner and label transitions: one step, no Kafka in sight.

Within a step decisions are taken in before labels, so a label may arrive in the batch of its
decision; then what event time has made due is settled. The prediction that is judged is the one
that was made when the event was decided, and it is judged when the event matures, by what is
known of it then: frauds that are found fast do not make the figures look better than they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.event import identity_hash
from models.evaluation import average_precision, brier, recall_at_fpr, roc_auc, value_detection_rate
from models.learner import Learner, Stamp
from models.rehearsal import Ring
from models.weights import Weights
from pipeline.decided import PlacedLabel
from pipeline.join import JoinRow, JoinStore, Statement, merge, net_of, transitions_of

SWEEP_ROWS_MAX = 4_000
EXPIRE_EVERY_MS = 3_600_000
JUDGED_MAX = 20_480
FPR = 0.005
ALERT_RATE = 0.005
POSITION, SENDER = "position", "sender"
_LEARNER, _JUDGED = "learner/", "judged"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnRules:
    """What a step is told.

    Attributes:
        legit_after_ms: Event time of silence after which an event is legit; 0 = never.
        horizon_ms: Event time for which a decision waits for its label.
        label_partitions: Of the label updates topic.
        sweep_rows_max: Rows that one call settles because their time has come.
        sends_labels: Whether it is the one learner that sends label transitions.
    """

    n_features: int
    label_partitions: int
    legit_after_ms: int = 7 * 86_400_000
    horizon_ms: int = 40 * 86_400_000
    sweep_rows_max: int = SWEEP_ROWS_MAX
    sends_labels: bool = True


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
    """What became of the records of one step, by outcome."""

    decisions: dict[str, int] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)

    def count(self, kind: dict[str, int], outcome: str, by: int = 1) -> None:
        """Add to an outcome."""
        if by:
            kind[outcome] = kind.get(outcome, 0) + by


class LearnStep:
    """Joins, learns, judges.

    Everything that it knows is in the store's open transaction, in the learner, or in `position`;
    `checkpoint_parts` returns what a commit must add to the first.
    """

    def __init__(self, rules: LearnRules, store: JoinStore, learner: Learner) -> None:
        """Take the ports; call `restore` before the first step."""
        self._rules = rules
        self._store = store
        self._learner = learner
        self._judged = Ring(_JUDGED, JUDGED_MAX, 2)
        self.position = Position()
        self.weights = b""
        self.sender: bytes | None = None
        self.learned_since_publish = False
        self.more_due = False

    def restore(self) -> None:
        """Become what the store's last commit holds; a new learner if there is none."""
        parts = self._store.parts()
        if POSITION in parts:
            self.position = msgspec.msgpack.decode(parts[POSITION], type=Position)
        self.weights, self.sender = parts.get("weights", b""), parts.get(SENDER)
        self._judged.restore(parts, self.position.judged)
        self._learner.restore(
            {n.removeprefix(_LEARNER): b for n, b in parts.items() if n.startswith(_LEARNER)}
        )

    def take(self, decisions: Sequence[JoinRow], labels: Sequence[PlacedLabel]) -> StepCounts:
        """Take a batch in, and settle what it decides."""
        counts = StepCounts()
        held = self._take_decisions(decisions, counts)
        statements: dict[int, list[Statement]] = {}
        for key, statement in [*held, *labels]:
            statements.setdefault(key, []).append(statement)
        self._take_labels(statements, counts)
        self.settle_due(counts)
        return counts

    def settle_due(self, counts: StepCounts) -> None:
        """Settle rows whose silence has lasted; sets `more_due` when there may be more."""
        rules, position = self._rules, self.position
        self.more_due = False
        if rules.legit_after_ms:
            until_ms = position.clock_ms - rules.legit_after_ms
            rows = self._store.due_rows(until_ms, rules.sweep_rows_max)
            for row in rows:
                row.matured = True
            self._settle(rows, counts, "silent")
            self._judge(rows)
            self._store.settle_many(rows)
            self.more_due = len(rows) == rules.sweep_rows_max
        if position.clock_ms - position.expired_ms >= EXPIRE_EVERY_MS:
            position.expired_ms = position.clock_ms
            gone = self._store.expire(position.clock_ms - rules.horizon_ms)
            counts.count(counts.decisions, "expired", gone.rows)
            counts.count(counts.labels, "unmatched", gone.held_labels)

    def snapshot(self, created_at_ms: int, code_version: str) -> Weights:
        """Freeze the next version, and count it as made."""
        self._learner.flush()
        position = self.position
        weights = self._learner.snapshot(
            Stamp(
                version=position.version + 1,
                parent_sha256=position.sha256,
                offsets=dict(position.offsets),
                learned_until_ms=position.learned_until_ms,
                labels_learned=position.labels_learned,
                created_at_ms=created_at_ms,
                metrics=self.figures(),
                code_version=code_version,
            )
        )
        position.version += 1
        return weights

    def checkpoint_parts(self, weights: bytes | None, sha256: str) -> dict[str, bytes]:
        """Return what changed since the last checkpoint.

        Args:
            weights: Signed bytes of the version just made; None when none was.
            sha256: Of these bytes.
        """
        self._learner.flush()
        parts = {_LEARNER + name: body for name, body in self._learner.state_changes().items()}
        parts |= self._judged.changed_pages()
        if weights is not None:
            self.position.sha256 = sha256
            self.weights = parts["weights"] = weights
            self.learned_since_publish = False
        parts[POSITION] = msgspec.msgpack.encode(self.position)
        return parts

    def figures(self) -> dict[str, float]:
        """Return the progressive evaluation over the newest judged predictions."""
        size = self._judged.size
        if not size:
            return {}
        X, y, live = self._judged.take(np.arange(size))
        p, amount = X[:, 0].astype(np.float64), X[:, 1].astype(np.float64)
        assert live.all()
        figures = {
            "judged": float(size),
            "fraud_rate": float(y.mean()),
            "average_precision": average_precision(y, p),
            "roc_auc": roc_auc(y, p),
            "recall_at_half_percent_fpr": recall_at_fpr(y, p, FPR),
            "value_detection_at_half_percent": value_detection_rate(y, p, amount, ALERT_RATE),
            "brier": brier(y, p),
        }
        return {name: value for name, value in figures.items() if np.isfinite(value)}

    def _take_decisions(
        self, decisions: Sequence[JoinRow], counts: StepCounts
    ) -> list[tuple[int, Statement]]:
        """Keep new decisions, let the learner see their vectors; return labels that waited."""
        if not decisions:
            return []
        new = self._store.add_many(decisions)
        counts.count(counts.decisions, "joined", len(new))
        counts.count(counts.decisions, "repeated", len(decisions) - len(new))
        learnable = [row for row in new if row.x is not None]
        counts.count(counts.decisions, "not_learnable", len(new) - len(learnable))
        p = [np.nan if row.p is None else row.p for row in learnable]
        self._learner.observe_many(self._stack(learnable), np.array(p, np.float64))
        self.position.clock_ms = max(self.position.clock_ms, *(row.event_ms for row in decisions))
        return self._store.take_held([row.key for row in new])

    def _take_labels(self, statements: Mapping[int, list[Statement]], counts: StepCounts) -> None:
        rows = self._store.find_many(list(statements))
        early = [(key, s) for key, news in statements.items() if key not in rows for s in news]
        self._store.hold_many(early)
        counts.count(counts.labels, "held", len(early))
        changed = []
        for key, news in statements.items():
            row = rows.get(key)
            if row is None:
                continue
            merged = merge(row.statements, news)
            if merged == row.statements:
                counts.count(counts.labels, "repeated", len(news))
                continue
            row.statements = merged
            changed.append(row)
        self._settle(changed, counts, "learned")
        if not self._rules.legit_after_ms:
            self._judge([row for row in changed if row.net is not None and not row.matured])
            for row in changed:
                row.matured = row.matured or row.net is not None
        self._store.settle_many(changed)

    def _settle(self, rows: Sequence[JoinRow], counts: StepCounts, outcome: str) -> None:
        """Work out net labels, send what changed, and teach it."""
        taught: list[JoinRow] = []
        withdrawn: list[int] = []
        for row in rows:
            silent_since_ms = row.event_ms + self._rules.legit_after_ms
            silent = row.matured and self._rules.legit_after_ms > 0
            net = net_of(row.statements, silent_since_ms if silent else None)
            if net == row.net:
                continue
            partition = identity_hash(row.name) % self._rules.label_partitions
            for transition in transitions_of(row, net):
                if self._rules.sends_labels:
                    self._store.send_later(partition, row.name.encode(), transition)
                row.turns += 1
            known, row.net = row.net, net
            if known is not None and (net is None or net.fraud != known.fraud):
                withdrawn.append(row.key)
            if net is not None and (known is None or net.fraud != known.fraud):
                taught.append(row)
        if withdrawn:
            self._learner.forget_many(_ids(withdrawn))
        self._teach(taught)
        counts.count(counts.labels, outcome, len(taught))
        counts.count(counts.labels, "withdrawn", len(withdrawn))
        self.learned_since_publish |= bool(taught or withdrawn)

    def _teach(self, rows: Sequence[JoinRow]) -> None:
        position = self.position
        position.labels_learned += len(rows)
        for row in rows:
            assert row.net is not None
            position.learned_until_ms = max(position.learned_until_ms, row.net.time_ms)
        learnable = [row for row in rows if row.x is not None]
        if learnable:
            y = np.array([row.net is not None and row.net.fraud for row in learnable], np.uint8)
            self._learner.learn_many(
                self._stack(learnable), y, _ids([row.key for row in learnable])
            )

    def _judge(self, rows: Sequence[JoinRow]) -> None:
        """Hold predictions against what is known of their events now."""
        known = [row for row in rows if row.p is not None and row.net is not None]
        X = np.array([(row.p, row.amount) for row in known], np.float32).reshape(-1, 2)
        y = np.array([row.net is not None and row.net.fraud for row in known], np.uint8)
        self._judged.append(X, y, _ids([row.key for row in known]))
        self.position.judged = self._judged.total

    def _stack(self, rows: Sequence[JoinRow]) -> NDArray[np.float32]:
        """Return the rows' vectors, shape (m, n_features); infinity is taken as missing."""
        body = b"".join(row.x or b"" for row in rows)
        X = np.frombuffer(body, "<f4").reshape(len(rows), self._rules.n_features)
        return np.where(np.isinf(X), np.float32(np.nan), X)


def _ids(keys: Sequence[int]) -> NDArray[np.uint64]:
    return np.array(keys, np.int64).view(np.uint64)
