"""Identities of the dedup horizon → which events are new: a set that forgets by event time.

Judged per (updates partition, source partition), in log order, so that the verdicts are a
function of the log alone, wherever batches were cut and workers restarted.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from features.store import DEDUP_BUCKET_MS, horizon_floor

FRESH = 0
LATE = 1
DUPLICATE = 2
SEEN_MIN_SLOTS = 1024
SEEN_FULL = 0.75  # of the slots; a look-up then passes 2.5 of them, one in vain 8.5
SEEN_ROOM = 2  # slots for each identity that is kept, at least, when the table is made anew

_EMPTY = -1  # bucket of a free slot
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@njit(cache=True)
def _find(ids: NDArray[np.uint64], buckets: NDArray[np.int64], identity: np.uint64) -> int:
    """Return the slot that holds an identity, or the free one where it belongs."""
    mask = np.uint64(ids.size - 1)
    slot = (identity * _GOLDEN) >> np.uint64(16) & mask
    while buckets[slot] != _EMPTY and ids[slot] != identity:
        slot = (slot + np.uint64(1)) & mask
    return int(slot)


@njit(cache=True)
def _remember(
    ids: NDArray[np.uint64],
    buckets: NDArray[np.int64],
    identities: NDArray[np.uint64],
    bucket: int,
) -> int:
    """Put identities of one bucket into the table; return how many slots were taken."""
    taken = 0
    for i in range(identities.size):
        slot = _find(ids, buckets, identities[i])
        taken += buckets[slot] == _EMPTY
        ids[slot] = identities[i]
        buckets[slot] = max(bucket, buckets[slot])
    return taken


@njit(cache=True)
def _judge_rows(
    ids: NDArray[np.uint64],
    buckets: NDArray[np.int64],
    offset: NDArray[np.int64],
    identities: NDArray[np.uint64],
    time_ms: NDArray[np.int64],
    begin: int,
    clock_ms: int,
    horizon_ms: int,
    verdicts: NDArray[np.uint8],
    kept: NDArray[np.int64],
    firsts: NDArray[np.int64],
) -> tuple[int, int, int, int, int, int]:
    """Judge each event once, by its first row, and keep or drop all its rows.

    `verdicts` takes each row's verdict, `kept` the rows that count, `firsts` the first row of each
    event that does. Returns the clock after, slots taken, and the counts of rows kept, events that
    count, late, duplicate.
    """
    taken = rows = events = late = duplicates = 0
    verdict = FRESH
    for i in range(begin, offset.size):
        if i == begin or offset[i] != offset[i - 1]:
            verdict = FRESH
            if time_ms[i] < clock_ms - horizon_ms:
                verdict = LATE
                late += 1
            else:
                slot = _find(ids, buckets, identities[i])
                floor = max(0, clock_ms - horizon_ms) // DEDUP_BUCKET_MS
                if buckets[slot] >= floor and buckets[slot] != _EMPTY:
                    verdict = DUPLICATE
                    duplicates += 1
                else:
                    taken += buckets[slot] == _EMPTY
                    ids[slot] = identities[i]
                    buckets[slot] = time_ms[i] // DEDUP_BUCKET_MS
                    firsts[events] = i
                    events += 1
                clock_ms = max(clock_ms, time_ms[i])
        verdicts[i] = verdict
        if verdict == FRESH:
            kept[rows] = i
            rows += 1
    return clock_ms, taken, rows, events, late, duplicates


@njit(cache=True)
def _rehash(
    ids: NDArray[np.uint64],
    buckets: NDArray[np.int64],
    floor: int,
    new_ids: NDArray[np.uint64],
    new_buckets: NDArray[np.int64],
) -> int:
    kept = 0
    for i in range(ids.size):
        if buckets[i] >= floor and buckets[i] != _EMPTY:
            slot = _find(new_ids, new_buckets, ids[i])
            new_ids[slot] = ids[i]
            new_buckets[slot] = buckets[i]
            kept += 1
    return kept


class Judged(NamedTuple):
    """What `judge_rows` found.

    Attributes:
        verdicts: uint8: FRESH, LATE or DUPLICATE of each row; of those before `begin`, anything.
        rows: int64: indices of the rows that count, ascending.
        firsts: int64: of those, the first of each event.
        late: Count of events older than the lateness limit.
        duplicates: Count of events whose identity was seen.
    """

    verdicts: NDArray[np.uint8]
    rows: NDArray[np.int64]
    firsts: NDArray[np.int64]
    late: int
    duplicates: int


class SeenIdentities:
    """The identities of one source partition's last `horizon_ms` of event time.

    21 to 64 bytes an identity (open addressing, a quarter to three quarters full).
    """

    def __init__(self, horizon_ms: int, clock_ms: int, seen: Mapping[int, bytes]) -> None:
        """Start from what the store kept.

        Args:
            horizon_ms: How much event time is remembered; also the lateness limit.
            clock_ms: Largest event time seen before; -1 for none.
            seen: Bucket → packed little-endian u64 hashes.
        """
        self._horizon_ms = horizon_ms
        self.clock_ms = clock_ms
        self._used = 0
        self._allocate(SEEN_MIN_SLOTS)
        for bucket, data in seen.items():
            identities = np.frombuffer(data, "<u8")
            self._reserve(identities.size)
            self._used += _remember(self._ids, self._buckets, identities, bucket)

    @property
    def slots(self) -> int:
        """Size of the table: 16 bytes each."""
        return int(self._ids.size)

    def _allocate(self, slots: int) -> None:
        self._ids = np.zeros(slots, np.uint64)
        self._buckets = np.full(slots, _EMPTY, np.int64)

    def _reserve(self, more: int) -> None:
        """Make room, forgetting what lies behind the horizon."""
        if self._used + more <= self._ids.size * SEEN_FULL:
            return
        ids, buckets = self._ids, self._buckets
        floor = horizon_floor(self.clock_ms, self._horizon_ms)
        alive = int(np.count_nonzero(buckets >= floor)) + more
        self._allocate(max(SEEN_MIN_SLOTS, 1 << int(alive * SEEN_ROOM - 1).bit_length()))
        self._used = _rehash(ids, buckets, floor, self._ids, self._buckets)

    def judge_rows(
        self,
        offset: NDArray[np.int64],
        identities: NDArray[np.uint64],
        time_ms: NDArray[np.int64],
        begin: int = 0,
    ) -> "Judged":
        """Tell which rows count, and remember the events that do.

        Args:
            offset: int64 (n,): rows of the same event have the same, and stand together.
            identities: uint64 (n,), in log order.
            time_ms: int64 (n,), event times.
            begin: First row to judge.
        """
        n = offset.size
        self._reserve(n - begin)
        verdicts = np.empty(n, np.uint8)
        rows = np.empty(2 * n, np.int64)
        clock_ms, taken, kept, events, late, duplicates = _judge_rows(
            self._ids,
            self._buckets,
            offset,
            identities,
            time_ms,
            begin,
            self.clock_ms,
            self._horizon_ms,
            verdicts,
            rows[:n],
            rows[n:],
        )
        self.clock_ms = clock_ms
        self._used += taken
        return Judged(verdicts, rows[:kept], rows[n : n + events], late, duplicates)


def warm_up() -> None:
    """Compile everything (or load it from numba's disk cache), so that no event waits later."""
    seen = SeenIdentities(1, -1, {0: bytes(8)})
    rows = np.arange(SEEN_MIN_SLOTS, dtype=np.int64)
    seen.judge_rows(rows, rows.astype(np.uint64), rows)
    # rows that were fetched are read-only views, which are another type to the compiler
    data = rows.tobytes()
    offset = np.frombuffer(data, np.int64)
    seen.judge_rows(offset, np.frombuffer(data, np.uint64), offset)
