"""decisions, labels → changed learners and label transitions: one step, no Kafka in sight.

Within a step decisions are taken in before labels, so a label may arrive in the batch of its
decision; then what event time has made due is settled. What a version holds is a function of the
sequence of steps and of where versions were cut: rows that wait for a full mini-batch are part of
the state, and no clock but event time is asked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from features.event import identity_hash
from models.ensemble import Ensemble
from models.lane import below
from models.learner import Stamp
from models.weights import Weights
from pipeline.decided import PlacedLabel
from pipeline.join import (
    AGAIN,
    JoinRow,
    JoinStore,
    Statement,
    merge,
    source_of,
    traces_of,
    transitions_of,
)
from pipeline.judge import Judge
from pipeline.position import POSITION, SENDER, Position, StepCounts
from pipeline.step_ports import Company
from pipeline.teach import Teacher, vectors_of
from pipeline.truth import FEEDBACK, FEEDBACK_SOURCES, settled_net

SWEEP_ROWS_MAX = 4_000
EXPIRE_EVERY_MS = 3_600_000
_LEARNER, _GUARD, _INFLUENCE = "learner/", "guard/", "influence/"


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnRules:
    """What a step is told.

    Attributes:
        legit_after_ms: Event time of silence after which an event is legit; 0 = never.
        horizon_ms: Event time for which a decision waits for its label.
        label_partitions: Of the label updates topic.
        sweep_rows_max: Rows that one call settles because their time has come.
        sends_labels: Whether it is the one learner that sends label transitions.
        feedback_sources: Whose labels the feedback lane learns.
        traced: Whether steps say which traced decisions they learned.
    """

    n_features: int
    label_partitions: int
    legit_after_ms: int = 7 * 86_400_000
    horizon_ms: int = 40 * 86_400_000
    sweep_rows_max: int = SWEEP_ROWS_MAX
    sends_labels: bool = True
    feedback_sources: Sequence[str] = FEEDBACK_SOURCES
    traced: bool = False


class LearnStep:
    """Joins, learns, judges.

    Everything that it knows is in the store's open transaction, in the ensemble and its company,
    or in `position`; `checkpoint_parts` returns what a commit must add to the first.

    Attributes:
        position: Where it stands.
        weights: Signed bytes of the newest version made; empty before the first.
        sender: As `learn_duty` keeps it.
        learned_since_publish: Whether another version would say more.
        more_due: Whether `settle_due` has more to do.
    """

    def __init__(
        self, rules: LearnRules, store: JoinStore, ensemble: Ensemble, company: Company
    ) -> None:
        """Take the ports; call `restore` before the first step."""
        self._rules = rules
        self._store = store
        self._ensemble = ensemble
        self._company = company
        self._teacher = Teacher(
            ensemble, company.influence, rules.n_features, rules.feedback_sources
        )
        self._judge = Judge(ensemble, company)
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
        if parts.get(AGAIN):
            self.position.judged = 0
            self.more_due = self.learned_since_publish = True
        self._judge.restore(parts, self.position.judged)
        self._ensemble.restore(below(_LEARNER, parts))
        self._company.restore(below(_GUARD, parts), below(_INFLUENCE, parts))

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
            self._judge_matured(rows)
            self._store.settle_many(rows)
            self.more_due = len(rows) == rules.sweep_rows_max
        if position.clock_ms - position.expired_ms >= EXPIRE_EVERY_MS:
            position.expired_ms = position.clock_ms
            gone = self._store.expire(position.clock_ms - rules.horizon_ms)
            counts.count(counts.decisions, "expired", gone.rows)
            counts.count(counts.labels, "unmatched", gone.held_labels)

    def snapshot(self, created_at_ms: int, code_version: str) -> Weights:
        """Cut the next version: learn what waits, freeze, and count it as made."""
        position = self.position
        figures = self.figures() | self._ensemble.figures() | self._company.figures()
        weights = self._ensemble.snapshot(
            Stamp(
                version=position.version + 1,
                parent_sha256=position.sha256,
                offsets=dict(position.offsets),
                learned_until_ms=position.learned_until_ms,
                labels_learned=position.labels_learned,
                created_at_ms=created_at_ms,
                metrics=figures,
                code_version=code_version,
            )
        )
        position.version += 1
        self._company.close_version()
        return weights

    def checkpoint_parts(self, weights: bytes | None, sha256: str) -> dict[str, bytes]:
        """Return what changed since the last checkpoint.

        Args:
            weights: Signed bytes of the version just made; None when none was.
            sha256: Of these bytes.
        """
        parts = _named(_LEARNER, self._ensemble.state_changes()) | self._judge.changed_pages()
        guard, influence = self._company.state_changes()
        parts |= _named(_GUARD, guard) | _named(_INFLUENCE, influence)
        if weights is not None:
            self.position.sha256 = sha256
            self.weights = parts["weights"] = weights
            self.learned_since_publish = False
        return parts | {POSITION: msgspec.msgpack.encode(self.position), AGAIN: b""}

    def figures(self) -> dict[str, float]:
        """Return the progressive evaluation over the newest judged predictions."""
        return self._judge.figures()

    def _take_decisions(
        self, decisions: Sequence[JoinRow], counts: StepCounts
    ) -> list[tuple[int, Statement]]:
        """Keep new decisions and what is believed of them; return labels that waited."""
        if not decisions:
            return []
        vectors = [row for row in decisions if row.x is not None]
        beliefs = self._ensemble.predict_each(vectors_of(vectors, self._rules.n_features))
        for row, belief in zip(vectors, beliefs.astype("<f4"), strict=True):
            row.beliefs = belief.tobytes()
        new = self._store.add_many(decisions)
        counts.count(counts.decisions, "joined", len(new))
        counts.count(counts.decisions, "repeated", len(decisions) - len(new))
        learnable = [row for row in new if row.x is not None]
        counts.count(counts.decisions, "not_learnable", len(new) - len(learnable))
        self.position.clock_ms = max(self.position.clock_ms, *(row.event_ms for row in decisions))
        self._observe(learnable)
        return self._store.take_held([row.key for row in new])

    def _observe(self, rows: Sequence[JoinRow]) -> None:
        """Let the ensemble and the guard see decided vectors, and hear what time it is."""
        X = vectors_of(rows, self._rules.n_features)
        p = np.array([np.nan if row.p is None else row.p for row in rows], np.float64)
        clock_ms, guard = self.position.clock_ms, self._company.guard
        self._ensemble.observe_many(X, p)
        self._ensemble.advance(clock_ms)
        if guard is not None:
            guard.observe_decided(X, p, np.array([row.event_ms for row in rows], np.int64))
            self._ensemble.pace(guard.reaction(clock_ms))

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
        known: list[JoinRow] = []
        if not self._rules.legit_after_ms:  # an event matures by being known
            known = [row for row in changed if not row.matured and settled_net(row, 0)]
            for row in known:
                row.matured = True
        self._settle(changed, counts, "learned")
        self._judge_matured(known)
        self._store.settle_many(changed)

    def _settle(self, rows: Sequence[JoinRow], counts: StepCounts, outcome: str) -> None:
        """Work out net labels, send what changed, and teach it."""
        learned: list[JoinRow] = []
        withdrawn: list[JoinRow] = []
        for row in rows:
            net, known = settled_net(row, self._rules.legit_after_ms), row.net
            if net == known:
                continue
            partition = identity_hash(row.name) % self._rules.label_partitions
            for transition in transitions_of(row, net):
                if self._rules.sends_labels:
                    self._store.send_later(partition, row.name.encode(), transition)
                row.turns += 1
            row.net = net
            row.source = source_of(row)
            if known is not None and (net is None or net.fraud != known.fraud):
                withdrawn.append(row)
            if net is not None and (known is None or net.fraud != known.fraud):
                learned.append(row)
        if self._rules.traced:
            counts.traces += traces_of(learned)
        late = [row for row in withdrawn if row.matured]
        counts.count(counts.labels, outcome, len(learned))
        counts.count(counts.labels, "withdrawn", len(withdrawn))
        counts.count(counts.labels, "late", len(late))
        self._judge.weigh(late)
        self._teach(rows, learned)

    def _teach(self, rows: Sequence[JoinRow], learned: Sequence[JoinRow]) -> None:
        position = self.position
        lessons = self._teacher.teach(rows)
        self.learned_since_publish |= bool(learned) or any(any(one) for one in lessons.values())
        position.labels_learned += len(learned)
        for row in learned:
            assert row.net is not None
            position.learned_until_ms = max(position.learned_until_ms, row.net.time_ms)
        self._judge.hear(learned, lessons[FEEDBACK].taught, position.clock_ms)

    def _judge_matured(self, rows: Sequence[JoinRow]) -> None:
        self._judge.judge(rows, self.position.clock_ms)
        self.position.judged = self._judge.total


def _named(prefix: str, parts: Mapping[str, bytes]) -> dict[str, bytes]:
    return {prefix + name: body for name, body in parts.items()}
