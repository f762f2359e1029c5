"""decisions and the marks of their states → vectors again, by the kernel that made them.

An entity is asked many times; in order of their marks each question needs only the rows that the
one before it lacked. Questions of different entities are worked off together, a round at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.event import Event
from features.spec import Spec
from features.store import Source
from features.update import concat_updates, updates_of_events
from features.vector import add_terms
from features.window import apply_many, evaluate_many
from pipeline.skew_index import LogIndex

Marks = Mapping[Source, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Question:
    """One event, and what the states that it was asked of held.

    Attributes:
        marks: Entity key → what its state had applied; an absent key has no state. None: no
            state was read at all.
        own: Entity keys to which the event itself must be added.
        overlay: Indices of further rows of the index to add, those of the event's entities.
    """

    event: Event
    marks: Mapping[bytes, Marks] | None
    own: frozenset[bytes]
    overlay: Sequence[int] = ()


class _Ask(NamedTuple):
    """One entity of one question: which row of the questions' own rows it is, and how far."""

    own_row: int
    marks: Marks


@dataclass(slots=True)
class _Entity:
    """One entity's state as it goes through its questions.

    Attributes:
        took: Rows applied so far, by stream.
    """

    blob: bytes = b""
    took: dict[tuple[Source, int], int] = field(default_factory=dict)


def recompute(spec: Spec, index: LogIndex, questions: Sequence[Question]) -> NDArray[np.float32]:
    """Return the questions' vectors, float32, shape (questions, n_features)."""
    events = [question.event for question in questions]
    own = updates_of_events(spec, events)
    asks: dict[bytes, list[_Ask]] = {}
    for row, (key, q) in enumerate(zip(own.keys, own.row_event.tolist(), strict=True)):
        marks = questions[q].marks
        if marks is not None:
            asks.setdefault(key, []).append(_Ask(row, marks.get(key, {})))
    for asked in asks.values():
        asked.sort(key=lambda ask: sum(sum(marks) for marks in ask.marks.values()))
    starts = np.cumsum([0, *(len(entity.features) for entity in spec.entities)])
    at_ms = np.array([event.event_time_ms for event in events], np.int64)
    values = np.full((len(events), spec.n_features), np.nan)
    entities = {key: _Entity() for key in asks}
    overlaid = _overlaid(index, questions)
    for number in range(max(map(len, asks.values()), default=0)):
        keys = [key for key, asked in asks.items() if len(asked) > number]
        turn = [asks[key][number] for key in keys]
        _advance(spec, index, [entities[key] for key in keys], keys, turn)
        rows = np.array([ask.own_row for ask in turn], np.int64)
        question = own.row_event[rows].astype(np.int64)
        entity = own.entity[rows].astype(np.int64)
        mine = [
            slot
            for slot, (key, q) in enumerate(zip(keys, question.tolist(), strict=True))
            if key in questions[q].own
        ]
        extra = [overlaid.get((q, k), []) for q, k in zip(question.tolist(), keys, strict=True)]
        added = [row for rows_ in extra for row in rows_]
        slot = np.array(mine + [s for s, rows_ in enumerate(extra) for _ in rows_], np.int64)
        blobs = [entities[key].blob for key in keys]
        further = concat_updates([own.take(rows[mine]), index.rows.take(added)])
        states = apply_many(spec, blobs, slot, further)
        for e in np.unique(entity).tolist():
            some = np.flatnonzero(entity == e)
            at = at_ms[question[some]]
            found, _ = evaluate_many(spec, e, [states[s] for s in some], at, own.id[rows[some]])
            values[question[some], starts[e] : starts[e + 1]] = found
    add_terms(spec, events, at_ms, values)
    return values.astype(np.float32)


def _overlaid(index: LogIndex, questions: Sequence[Question]) -> dict[tuple[int, bytes], list[int]]:
    """Return overlay rows by question and key."""
    found: dict[tuple[int, bytes], list[int]] = {}
    for q, question in enumerate(questions):
        for row in question.overlay:
            found.setdefault((q, index.rows.keys[row]), []).append(row)
    return found


def _advance(
    spec: Spec,
    index: LogIndex,
    entities: Sequence[_Entity],
    keys: Sequence[bytes],
    turn: Sequence[_Ask],
) -> None:
    """Bring entities to the marks of their next question, from nothing where they lie behind."""
    rows: list[NDArray[np.int64]] = []
    slots: list[int] = []
    for slot, (entity, key, ask) in enumerate(zip(entities, keys, turn, strict=True)):
        wanted = {
            stream: int(np.searchsorted(index.offset[known], _mark(ask.marks, stream)))
            for stream, known in index.of_key.get(key, {}).items()
        }
        if any(count < entity.took.get(stream, 0) for stream, count in wanted.items()):
            entity.blob, entity.took = b"", {}
        for stream, count in wanted.items():
            more = index.of_key[key][stream][entity.took.get(stream, 0) : count]
            rows.append(more)
            slots += [slot] * len(more)
        entity.took = wanted
    if slots:
        updates = index.rows.take(np.concatenate(rows))
        blobs = [entity.blob for entity in entities]
        applied = apply_many(spec, blobs, np.array(slots, np.int64), updates)
        for entity, blob in zip(entities, applied, strict=True):
            entity.blob = blob


def _mark(marks: Marks, stream: tuple[Source, int]) -> int:
    """Return the next offset of a stream; 0 where nothing of it is known."""
    source, partition = stream
    offsets = marks.get(source, ())
    return offsets[partition] if partition < len(offsets) else 0
