"""batches of many updates partitions → one load, one run of the kernel, one round of commits.

Small batches are mostly overhead: a partition each for itself would cost five times as much. Every
partition's commit is still its own, atomic and fenced; one may fail while the others stand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from features.spec import Spec
from features.store import FeatureWriter, StoreUnavailable
from features.update import concat_updates
from features.window import apply_many
from pipeline.aggregate import Aggregator
from pipeline.chunk import Applied, Chunk
from pipeline.featurize import LogRecord

Outcome = Applied | Exception


@dataclass(slots=True)
class _Work:
    """One partition's batch on its way."""

    aggregator: Aggregator
    chunks: Iterator[Chunk]
    applied: Applied
    failure: Exception | None = None
    chunk: Chunk = field(default_factory=lambda: Chunk(0))

    def advance(self) -> bool:
        """Take the next chunk; return whether there is one."""
        try:
            self.chunk = next(self.chunks)
        except StopIteration:
            return False
        except Exception as error:
            self.failure = error
            return False
        return True


async def apply_together(
    spec: Spec, store: FeatureWriter, batches: Sequence[tuple[Aggregator, Sequence[LogRecord]]]
) -> list[Outcome]:
    """Apply and commit batches of different partitions.

    Returns:
        For each batch what it did, or the exception that stopped it: those of `Aggregator.cut`
        and of `FeatureWriter.commit_many`. A partition that failed must be opened again.
    """
    works = []
    for aggregator, batch in batches:
        applied = Applied()
        works.append(_Work(aggregator, aggregator.cut(batch, applied), applied))
    running = works
    while running := [work for work in running if work.advance()]:
        running = await _commit(spec, store, running)
    return [work.failure or work.applied for work in works]


async def _commit(spec: Spec, store: FeatureWriter, works: list[_Work]) -> list[_Work]:
    """Make and write one chunk of each; return those that stand."""
    try:
        states = await _make(spec, store, works)
        commits = [
            work.aggregator.commit_of(work.chunk, made)
            for work, made in zip(works, states, strict=True)
        ]
        answers = await store.commit_many(commits)
    except StoreUnavailable as error:
        for work in works:
            work.failure = error
        return []
    for work, commit, answer in zip(works, commits, answers, strict=True):
        work.failure = answer
        if answer is None:
            work.aggregator.settle(commit)
            work.applied.commits += 1
            work.applied.states += len(commit.states)
    return [work for work in works if work.failure is None]


async def _make(
    spec: Spec, store: FeatureWriter, works: Sequence[_Work]
) -> list[dict[bytes, bytes]]:
    """Load what is cold, and return the new states of each chunk."""
    cold = {
        work.aggregator.partition: keys
        for work in works
        if (keys := [k for k, at in work.chunk.keys.items() if work.chunk.blobs[at] is None])
    }
    loaded = iter(await store.load_across(cold)) if cold else iter(())
    blobs: list[bytes] = []
    slots: list[np.ndarray[tuple[int], np.dtype[np.int64]]] = []
    for work in works:
        if work.chunk.pieces:
            slots.append(np.array(work.chunk.slot, np.int64) + len(blobs))
        blobs += [next(loaded) if blob is None else blob for blob in work.chunk.blobs]
    if not blobs:
        return [{} for _ in works]
    rows = concat_updates([piece for work in works for piece in work.chunk.pieces])
    changed = iter(apply_many(spec, blobs, np.concatenate(slots), rows))
    return [dict(zip(work.chunk.keys, changed, strict=False)) for work in works]
