"""Lateness and duplicates, judged in pieces and across restarts, against a plain dictionary."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.store import DEDUP_BUCKET_MS, horizon_floor
from pipeline.dedup import SeenIdentities

HORIZON_MS = 600_000
EVENTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3_000_000)), max_size=80)


FRESH, LATE, DUPLICATE = "fresh", "late", "duplicate"


def judge_plainly(events: Sequence[tuple[int, int]]) -> list[str]:
    clock, seen, verdicts = -1, {}, []  # type: tuple[int, dict[int, int], list[str]]
    for identity, at_ms in events:
        if at_ms < clock - HORIZON_MS:
            verdicts.append(LATE)
            continue
        alive = seen.get(identity, -1) >= horizon_floor(clock, HORIZON_MS)
        verdicts.append(DUPLICATE if alive else FRESH)
        if not alive:
            seen[identity] = at_ms // DEDUP_BUCKET_MS
        clock = max(clock, at_ms)
    return verdicts


@settings(deadline=None)
@given(
    events=EVENTS,
    cuts=st.lists(st.integers(1, 20), min_size=1),
    rows=st.lists(st.integers(1, 3), min_size=1),
    known=st.integers(0, 2),
)
def test_verdicts_do_not_depend_on_cuts_or_restarts(
    events: list[tuple[int, int]], cuts: list[int], rows: list[int], known: int
) -> None:
    seen, kept, at = SeenIdentities(HORIZON_MS, -1, {}), {}, 0  # type: ignore[var-annotated]
    for cut in cuts * len(events):
        part = events[at : at + cut]
        sizes = [rows[(at + i) % len(rows)] for i in range(len(part))]
        at += cut
        ids = np.repeat(
            np.array([5] * known + [id_ for id_, _ in part], np.uint64), [1] * known + sizes
        )
        times = np.repeat(
            np.array([0] * known + [t for _, t in part], np.int64), [1] * known + sizes
        )
        offset = np.repeat(np.arange(known + len(part)), [1] * known + sizes)
        judged = seen.judge_rows(offset, ids, times, known)
        wanted = judge_plainly(events[:at])[-len(part) :] if part else []
        counts = [verdict == FRESH for verdict in wanted]
        assert (judged.late, judged.duplicates) == (wanted.count(LATE), wanted.count(DUPLICATE))
        assert judged.rows.tolist() == [
            i for i, event in enumerate(offset.tolist()) if event >= known and counts[event - known]
        ]
        firsts = [int(np.flatnonzero(offset == known + i)[0]) for i, c in enumerate(counts) if c]
        assert judged.firsts.tolist() == firsts
        for first in firsts:
            bucket = int(times[first]) // DEDUP_BUCKET_MS
            kept[bucket] = kept.get(bucket, b"") + ids[first].astype("<u8").tobytes()
        floor = horizon_floor(seen.clock_ms, HORIZON_MS)
        kept = {bucket: data for bucket, data in kept.items() if bucket >= floor}
        if cut % 2:  # a new process, from what the store kept
            seen = SeenIdentities(HORIZON_MS, seen.clock_ms, kept)


@pytest.mark.parametrize("count", [1, 5_000])
def test_memory_is_bounded_by_the_horizon(count: int) -> None:
    seen = SeenIdentities(HORIZON_MS, -1, {})
    sizes = []
    for round_ in range(20):
        ids = np.arange(round_ * count + 1, (round_ + 1) * count + 1, dtype=np.uint64)
        times = np.full(count, round_ * HORIZON_MS * 2, np.int64)
        assert seen.judge_rows(np.arange(count), ids, times).rows.size == count
        sizes.append(seen.slots)
    assert max(sizes) == sizes[3]
