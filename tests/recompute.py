"""the log, a decision's watermarks → its vector again: nothing but the log is read.

Which events count is decided here by a plain reading of design 4.2 (dictionaries and sets), not by
the pipeline's code; the window kernel is the only thing shared, and it has an oracle of its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.event import Event, entity_key, identity_of, partition_of
from features.spec import Spec
from features.update import (
    EntityUpdates,
    LabelTransition,
    concat_updates,
    updates_of_events,
    updates_of_transitions,
)
from features.vector import derive_many
from features.window import apply_many
from models.decision import DecisionRecord


@dataclass(frozen=True)
class Row:
    """One accepted fact about an entity, and where it stands in the log."""

    source: str
    partition: int
    offset: int
    update: EntityUpdates


@dataclass
class LogIndex:
    """Every accepted row of a log, by entity.

    Attributes:
        partitions: Count of updates partitions.
    """

    spec: Spec
    partitions: int
    rows: dict[bytes, list[Row]] = field(default_factory=lambda: defaultdict(list))
    events: dict[str, tuple[int, int, Event]] = field(default_factory=dict)
    late: int = 0
    duplicate: int = 0

    def add_events(self, source_partition: int, log: Iterable[tuple[int, Event]]) -> None:
        """Take one source partition's events, in offset order."""
        clock: dict[int, int] = {}
        seen: dict[int, set[str]] = defaultdict(set)
        for offset, event in log:
            name = identity_of(event)
            self.events.setdefault(name, (source_partition, offset, event))
            updates = updates_of_events(self.spec, [event])
            by_owner: dict[int, list[int]] = defaultdict(list)
            for row, key in enumerate(updates.keys):
                by_owner[partition_of(key, self.partitions)].append(row)
            for owner, rows in by_owner.items():
                at_ms = event.event_time_ms
                if at_ms < clock.get(owner, at_ms) - self.spec.dedup_horizon_ms:
                    self.late += 1
                    continue
                clock[owner] = max(at_ms, clock.get(owner, at_ms))
                if name in seen[owner]:
                    self.duplicate += 1
                    continue
                seen[owner].add(name)
                for row in rows:
                    one = updates.take([row])
                    self.rows[one.keys[0]].append(Row("e", source_partition, offset, one))

    def add_transitions(
        self, source_partition: int, log: Iterable[tuple[int, LabelTransition]]
    ) -> None:
        """Take one partition of label updates, in offset order."""
        seq: dict[int, int] = {}
        for offset, transition in log:
            updates = updates_of_transitions(self.spec, [transition])
            owners = [partition_of(key, self.partitions) for key in updates.keys]
            for row, owner in enumerate(owners):
                if transition.seq <= seq.get(owner, 0):
                    continue
                one = updates.take([row])
                self.rows[one.keys[0]].append(Row("l", source_partition, offset, one))
            for owner in owners:
                seq[owner] = max(transition.seq, seq.get(owner, 0))

    def state(self, key: bytes, applied: dict[str, Sequence[int]] | None = None) -> bytes:
        """Return an entity's state: of all rows, or of those below the applied offsets."""
        chosen = [
            row.update for row in self.rows.get(key, []) if applied is None or _in(row, applied)
        ]
        if not chosen:
            return b""
        updates = concat_updates(chosen)
        return apply_many(self.spec, [b""], np.zeros(len(updates), np.int64), updates)[0]

    def vector(self, record: DecisionRecord) -> NDArray[np.float32]:
        """Return the vector that a decision must have scored, by what it names."""
        event = record.event
        own_name = identity_of(event)
        states: dict[str, bytes] = {}
        extra: list[EntityUpdates] = []
        own: list[int] = []
        own_rows = updates_of_events(self.spec, [event])
        for index, key in enumerate(own_rows.keys):
            kind = self.spec.entities[int(own_rows.entity[index])]
            entity, entity_id = kind.name, kind.id_of(event.entities)
            assert entity_id is not None
            assert key == entity_key(event.tenant, entity, entity_id)
            named = record.applied.get(str(partition_of(key, self.partitions)))
            applied: dict[str, Sequence[int]] = {"e": [], "l": []}
            if named is not None:
                applied = {"e": named.e, "l": named.l}
            states[entity] = self.state(key, applied)
            if not self._applied(own_name, applied):
                own.append(index)
            for name in record.overlay:
                if self._applied(name, applied):
                    continue
                rows = updates_of_events(self.spec, [self.events[name][2]])
                extra.extend(rows.take([i]) for i, other in enumerate(rows.keys) if other == key)
        overlay = concat_updates(extra) if extra else None
        derived = derive_many(self.spec, [event], [states], overlay, own_rows.take(own))
        return derived.X[0]

    def _applied(self, name: str, applied: dict[str, Sequence[int]]) -> bool:
        partition, offset, _ = self.events[name]
        return partition < len(applied["e"]) and offset < applied["e"][partition]


def _in(row: Row, applied: dict[str, Sequence[int]]) -> bool:
    offsets = applied[row.source]
    return row.partition < len(offsets) and row.offset < offsets[row.partition]
