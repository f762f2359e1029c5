"""What one commit will hold while it is gathered, and what a batch did."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.store import DEDUP_BUCKET_MS, DedupBucket
from features.update import EntityUpdates


@dataclass(slots=True)
class Applied:
    """What a batch of records did.

    Attributes:
        rows: Rows applied.
        late: Entries older than the lateness limit; not applied.
        duplicates: Entries whose identity, or transition number, was seen; not applied.
        repeated: Rows below the watermark: a router repeated itself.
        commits: Commits made.
        states: States written.
        ahead: End of what this process routed itself and could not apply yet: something that
            must be fetched stands before it.
        appended_ms: When the log took each applied entry (for freshness).
        traces: Contexts of the batches that made the records, where they are traced.
    """

    rows: int = 0
    late: int = 0
    duplicates: int = 0
    repeated: int = 0
    commits: int = 0
    states: int = 0
    ahead: int = 0
    appended_ms: list[NDArray[np.int64]] = field(default_factory=list)
    traces: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Chunk:
    """What one commit will hold.

    Attributes:
        next_offset: Of the updates partition, once it is committed.
        keys: Entity key → its place in `blobs`.
        blobs: The states as they were hot; none where they must be loaded.
        slot: For each row of `pieces`, the place of its entity.
        pieces: The rows that count.
        dedup_add: Identity hashes to remember.
        estimated_bytes: Of the commit.
    """

    next_offset: int
    keys: dict[bytes, int] = field(default_factory=dict)
    blobs: list[bytes | None] = field(default_factory=list)
    slot: list[int] = field(default_factory=list)
    pieces: list[EntityUpdates] = field(default_factory=list)
    dedup_add: dict[DedupBucket, list[bytes]] = field(default_factory=dict)
    estimated_bytes: int = 0


def by_bucket(
    identities: NDArray[np.uint64], time_ms: NDArray[np.int64]
) -> Iterator[tuple[int, bytes]]:
    """Yield each dedup bucket with its identities, packed, in log order."""
    if not identities.size:
        return
    data = identities.astype("<u8", copy=False)
    first = int(time_ms[0]) // DEDUP_BUCKET_MS
    if int(time_ms.min()) // DEDUP_BUCKET_MS == first == int(time_ms.max()) // DEDUP_BUCKET_MS:
        yield first, data.tobytes()
        return
    buckets = time_ms // DEDUP_BUCKET_MS
    order = np.argsort(buckets, kind="stable")
    buckets = buckets[order]
    packed = data[order].tobytes()
    edges = [0, *(np.flatnonzero(buckets[1:] != buckets[:-1]) + 1).tolist(), buckets.size]
    for start, end in pairwise(edges):
        yield int(buckets[start]), packed[8 * start : 8 * end]
