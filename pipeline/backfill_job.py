"""What all steps of a backfill share: what is asked, how it is cut, and where its files are.

A batch is some items of the log in order; its number and its first position name it everywhere.
An epoch is a run of batches: what one entity's rows of one epoch need fits in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.spec import Spec

BATCH_ITEMS: Final = 32_768
EPOCH_BATCHES: Final = 256
BUCKET_ROWS: Final = 1_000_000  # rows of entities that one step of walking takes, about
BUCKET_EVENTS: Final = 200_000  # events that one step of joining takes, about


@dataclass(frozen=True, slots=True)
class BackfillJob:
    """One backfill, as its steps need it; travels to worker processes.

    Attributes:
        folder: Temporary files, all of this job.
        now_ms: When it began: what lies in the future of it is refused, as the path would.
        updates_partitions: Lateness and repeats are judged for each, as the worker does.
        entity_buckets: Into how many parts the entities are cut.
        join_buckets: Into how many parts the events are cut to be joined with their labels.
        legit_after_ms: Event time after which silence counts as legit; 0 = never.
        since_ms: First event time that is written.
        until_ms: First event time that is not written any more.
    """

    spec_path: Path
    folder: Path
    now_ms: int
    updates_partitions: int
    entity_buckets: int
    join_buckets: int
    legit_after_ms: int = 0
    since_ms: int = 0
    until_ms: int = 2**62
    batch_items: int = BATCH_ITEMS
    epoch_batches: int = EPOCH_BATCHES

    @property
    def spec(self) -> Spec:
        """The feature spec; read once in each process."""
        return _spec_at(self.spec_path)

    def file(self, kind: str, *numbers: int) -> Path:
        """Return the name of a temporary file."""
        return self.folder / "-".join([kind, *map(str, numbers)])

    def epochs(self, cut: "Cut") -> int:
        """Return the count of epochs."""
        return max(-(-cut.batches // self.epoch_batches), 1)

    def batches_of(self, cut: "Cut", epoch: int) -> range:
        """Return the batches of an epoch."""
        first = epoch * self.epoch_batches
        return range(first, min(first + self.epoch_batches, cut.batches))


class Batch(NamedTuple):
    """Items of the log, in order.

    Attributes:
        number: Batches count from 0.
        first: Position of the first item in the log's order.
        kinds: `EVENT` or `LABEL` by item.
        lines: Line of the log by item.
        bodies: JSON by item.
    """

    number: int
    first: int
    kinds: list[int]
    lines: list[int]
    bodies: list[bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """How the log was cut into batches.

    Attributes:
        first: Position of each batch's first item, and behind the last the count of all items.
    """

    first: NDArray[np.int64]

    @classmethod
    def of(cls, sizes: Sequence[int]) -> "Cut":
        """Return the cut of batches of these sizes."""
        return cls(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))

    @property
    def batches(self) -> int:
        """Count of batches."""
        return len(self.first) - 1

    def batch_of(self, position: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the batch that holds each position."""
        return np.searchsorted(self.first, position, side="right") - 1


@lru_cache(maxsize=2)
def _spec_at(path: Path) -> Spec:
    return Spec.load(path)
