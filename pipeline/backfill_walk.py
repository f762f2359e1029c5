"""rows of one entity bucket in log order → its entities' features right after each that asks."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.update import EntityUpdates, concat_updates
from features.window_walk import APPLY, ASK, PEEK, walk_many
from pipeline.backfill_job import BackfillJob, Cut
from pipeline.backfill_judge import AGAIN, SKIP
from pipeline.spill import read_numbers, read_segment, unpack, updates_of, write_numbers

UNASKED: Final = np.zeros(4, np.uint8)  # step → the same without its question
UNASKED[[APPLY, ASK, PEEK, SKIP]] = APPLY, APPLY, SKIP, SKIP


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """Rows, with the position of the item that each comes from, and what it does."""

    updates: EntityUpdates
    position: NDArray[np.int64]
    step: NDArray[np.uint8]

    def take(self, index: NDArray[np.intp]) -> "_Rows":
        return _Rows(self.updates.take(index), self.position[index], self.step[index])


def walk_bucket(job: BackfillJob, cut: Cut, bucket: int) -> None:
    """Walk a bucket's entities through the whole log, epoch by epoch.

    Writes `at-B-E-K` (positions, ascending), `values-B-E-K` (float64, by the entity's features) and
    `late-B-E-K` for each epoch E and kind of entity K. Between epochs states are folded; within one
    they are not.
    """
    states: dict[bytes, bytes] = {}
    epochs = job.epochs(cut)
    for epoch in range(epochs):
        rows = _read(job, cut, bucket, epoch)
        for entity in job.spec.entities:
            mine = rows.take(np.flatnonzero(rows.updates.entity == entity.index))
            slots: dict[bytes, int] = {}
            slot = np.array([slots.setdefault(key, len(slots)) for key in mine.updates.keys])
            walked = walk_many(
                job.spec,
                entity.index,
                [states.get(key, b"") for key in slots],
                slot.astype(np.int64),
                mine.updates,
                mine.step,
                keep=epoch + 1 < epochs,
            )
            states.update(zip(slots, walked.blobs, strict=False))
            named = (bucket, epoch, entity.index)
            write_numbers(job.file("at", *named), mine.position[mine.step != APPLY])
            write_numbers(job.file("values", *named), walked.values)
            write_numbers(job.file("late", *named), walked.late)


def _read(job: BackfillJob, cut: Cut, bucket: int, epoch: int) -> _Rows:
    """Return an epoch's rows in log order: an event before the labels that it brings about."""
    parts: list[_Rows] = []
    again = read_numbers(job.file(AGAIN))
    for batch in job.batches_of(cut, epoch):
        columns = unpack(read_segment(job.file("rows", batch), bucket))
        step = read_numbers(job.file("steps", batch), np.uint8)[columns["row"]]
        if len(again):
            step = np.where(np.isin(columns["position"], again), UNASKED[step], step)
        part = _Rows(updates_of(columns), columns["position"], step)
        counted = np.flatnonzero(step != SKIP)
        parts.append(part if len(counted) == len(step) else part.take(counted))
    for join in range(job.join_buckets):
        segment = epoch * job.entity_buckets + bucket
        columns = unpack(read_segment(job.file("turns", join), segment))
        updates = updates_of(columns)
        parts.append(
            _Rows(updates, columns["position"], np.full(len(updates), APPLY, dtype=np.uint8))
        )
    position = np.concatenate([part.position for part in parts])
    order = np.argsort(position, kind="stable")
    return _Rows(
        concat_updates([part.updates for part in parts]),
        position,
        np.concatenate([part.step for part in parts]),
    ).take(order)
