"""events and labels of one join bucket → label transitions where they became known, net labels.

What a label means is `pipeline.join`'s business, with the learner's own functions: here is only
the order in which an event, what was said of it, and its silence come about in the log.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from features.update import LabelTransition, updates_of_transitions
from pipeline.backfill_job import BackfillJob, Cut
from pipeline.backfill_judge import CLOCK, CLOCK_AT
from pipeline.backfill_parse import JoinPart, ToJoin, bucket_of
from pipeline.decided import key_of
from pipeline.join import JoinRow, Statement, merge, net_of, transitions_of
from pipeline.spill import (
    columns_of,
    pack,
    read_numbers,
    read_segment,
    write_numbers,
    write_segments,
)

_parts = msgspec.msgpack.Decoder(JoinPart)


class Turn(NamedTuple):
    """A transition, and the position of the item that brought it about."""

    position: int
    transition: LabelTransition


def join_bucket(job: BackfillJob, cut: Cut, bucket: int) -> list[int]:
    """Join a bucket with its labels; return positions of events whose identity was there before.

    Writes `turns-B` (a segment by epoch and entity bucket) and `net-B` (positions, whether fraud,
    label times).
    """
    events: dict[str, ToJoin] = {}
    said: dict[str, list[Statement]] = {}
    again: list[int] = []
    for batch in range(cut.batches):
        part = _parts.decode(read_segment(job.file("join", batch), bucket))
        for event in part.events:
            if events.setdefault(event.name, event) is not event:  # the first one counts
                again.append(event.position)
        for label in part.labels:
            said.setdefault(label.name, []).append(label.statement)
    silence = _Silence(job) if job.legit_after_ms else None
    turns: list[Turn] = []
    nets: list[tuple[int, int, int]] = []
    for name, event in events.items():
        statements = said.get(name, [])
        silent_at = silence.position_of(event) if silence is not None else None
        if not statements and silent_at is None:
            continue
        net = _settle(event, statements, silent_at, job.legit_after_ms, turns).net
        if net is not None:
            nets.append((event.position, int(net.fraud), net.time_ms))
    turns.sort(key=lambda turn: turn.position)
    _write(job, cut, bucket, turns, nets)
    return again


def _settle(
    event: ToJoin,
    statements: Sequence[Statement],
    silent_at: int | None,
    legit_after_ms: int,
    turns: list[Turn],
) -> JoinRow:
    """Add each transition of an event's net label to `turns`; return it as it stands at the end."""
    row = JoinRow(
        key=key_of(event.name),
        name=event.name,
        event_ms=event.time_ms,
        place=event.position,
        x=None,
        subject=msgspec.msgpack.encode(event.subject),
        p=None,
        amount=0,
    )
    news: list[tuple[int, Statement | None]] = [
        (max(statement.place, event.position), statement) for statement in statements
    ]
    if silent_at is not None:
        news.append((silent_at, None))
    for position, statement in sorted(news, key=lambda new: new[0]):
        if statement is None:
            row.matured = True
        else:
            row.statements = merge(row.statements, [statement])
        net = net_of(row.statements, event.time_ms + legit_after_ms if row.matured else None)
        if net != row.net:
            turns += [Turn(position, transition) for transition in transitions_of(row, net)]
            row.turns = row.turns + (row.net is not None) + (net is not None)
            row.net = net
    return row


class _Silence:
    """Tells when the log's clock had passed an event by so long that silence was an answer."""

    def __init__(self, job: BackfillJob) -> None:
        self._after_ms = job.legit_after_ms
        self._clock_ms = read_numbers(job.file(CLOCK))
        self._position = read_numbers(job.file(CLOCK_AT))

    def position_of(self, event: ToJoin) -> int | None:
        """Return the position of the event with which it came; None: the log ended before."""
        at = int(np.searchsorted(self._clock_ms, event.time_ms + self._after_ms))
        return int(self._position[at]) if at < len(self._position) else None


def _write(
    job: BackfillJob,
    cut: Cut,
    bucket: int,
    turns: Sequence[Turn],
    nets: Sequence[tuple[int, int, int]],
) -> None:
    rows = updates_of_transitions(job.spec, [turn.transition for turn in turns])
    position = np.array([turn.position for turn in turns], np.int64)[rows.row_event]
    entity_bucket = np.fromiter((bucket_of(job, key) for key in rows.keys), np.int64, len(rows))
    epoch = cut.batch_of(position) // job.epoch_batches
    segments = []
    for number in range(job.epochs(cut) * job.entity_buckets):
        mine = np.flatnonzero(epoch * job.entity_buckets + entity_bucket == number)
        segments.append(pack(columns_of(rows.take(mine)) | {"position": position[mine]}))
    write_segments(job.file("turns", bucket), segments)
    found = np.array(sorted(nets), np.int64).reshape(len(nets), 3).T
    write_numbers(job.file("net", bucket), found)
