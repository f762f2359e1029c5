"""items of a log → rows by entity, events and labels by identity: the first step of a backfill.

Pure and by batch, so any number of processes can share it. What is no event or label is told with
its line, and left out.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.event import (
    Event,
    EventRejected,
    identity_hash,
    identity_of,
    parse_event,
    parse_label,
    partition_of,
)
from features.update import updates_of_events
from pipeline.backfill_job import BackfillJob, Batch
from pipeline.join import Statement, Subject, statement_of
from pipeline.replay_rows import LABEL, BadRow
from pipeline.spill import columns_of, pack, write_segments


class ToJoin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An event as the join needs it.

    Attributes:
        position: Place in the log's order.
    """

    position: int
    time_ms: int
    name: str
    subject: Subject


class SaidOf(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A label as the join needs it; its statement's place is its position."""

    name: str
    statement: Statement


class JoinPart(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What one batch holds for one join bucket."""

    events: list[ToJoin] = []
    labels: list[SaidOf] = []


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """What a batch's events need to be judged in order; the rest went to files.

    Attributes:
        position: int64, shape (events,): places in the log's order.
        time_ms: int64, shape (events,).
        row_event: int32, shape (rows,): index of the event that a row is of, ascending.
        row_id: uint64, shape (rows,): hash of that event's identity.
        row_owner: int64, shape (rows,): the updates partition that owns the row's entity.
        labels: Count of labels.
        bad: What was left out.
    """

    position: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    row_event: NDArray[np.int32]
    row_id: NDArray[np.uint64]
    row_owner: NDArray[np.int64]
    labels: int
    bad: list[BadRow]


def parse_batch(job: BackfillJob, batch: Batch) -> Parsed:
    """Parse a batch, and write its rows, events and labels to files.

    Writes `rows-N` (a segment of rows by entity bucket, with `position` and `row`), `join-N` (a
    segment by join bucket) and `events-N` (one segment of bodies, one of positions and times).
    """
    events: list[Event] = []
    bodies: list[bytes] = []
    positions: list[int] = []
    parts = [JoinPart([], []) for _ in range(job.join_buckets)]
    bad: list[BadRow] = []
    rules, labels = job.spec.event_rules, 0
    for index, (kind, line, body) in enumerate(
        zip(batch.kinds, batch.lines, batch.bodies, strict=True)
    ):
        position = batch.first + index
        try:
            if kind == LABEL:
                label = parse_label(body, rules, job.now_ms)
                name = identity_of(label)
                said = SaidOf(name, statement_of(label, position))
                parts[identity_hash(name) % job.join_buckets].labels.append(said)
                labels += 1
                continue
            event = parse_event(body, rules, job.now_ms)
        except EventRejected as error:
            bad.append(BadRow(line, error.pointer, error.detail))
            continue
        events.append(event)
        bodies.append(body)
        positions.append(position)
        name = identity_of(event)
        subject = Subject(event.tenant, event.event_type, event.event_id, event.entities)
        known = ToJoin(position, event.event_time_ms, name, subject)
        parts[identity_hash(name) % job.join_buckets].events.append(known)
    write_segments(job.file("join", batch.number), [msgspec.msgpack.encode(p) for p in parts])
    return _write_rows(job, batch.number, events, bodies, positions, labels, bad)


def _write_rows(
    job: BackfillJob,
    number: int,
    events: list[Event],
    bodies: list[bytes],
    positions: list[int],
    labels: int,
    bad: list[BadRow],
) -> Parsed:
    rows = updates_of_events(job.spec, events)
    places = job.updates_partitions * job.entity_buckets
    place = np.fromiter((partition_of(key, places) for key in rows.keys), np.int64, len(rows))
    owner, bucket = place % job.updates_partitions, place // job.updates_partitions
    position = np.array(positions, np.int64)
    time_ms = np.array([event.event_time_ms for event in events], np.int64)
    segments = []
    for b in range(job.entity_buckets):
        mine = np.flatnonzero(bucket == b)
        columns = columns_of(rows.take(mine))
        columns |= {"position": position[rows.row_event[mine]], "row": mine}
        segments.append(pack(columns))
    write_segments(job.file("rows", number), segments)
    known: dict[str, NDArray[Any]] = {"position": position, "time_ms": time_ms}
    write_segments(job.file("events", number), [pack(known), msgspec.msgpack.encode(bodies)])
    return Parsed(position, time_ms, rows.row_event, rows.id, owner, labels, bad)


def bucket_of(job: BackfillJob, key: bytes) -> int:
    """Return the entity bucket of a key."""
    return partition_of(key, job.updates_partitions * job.entity_buckets) // job.updates_partitions
