"""Lateness and duplicates, judged in pieces and across restarts, against a plain dictionary."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.store import DEDUP_BUCKET_MS, horizon_floor
from pipeline.dedup import DUPLICATE, FRESH, LATE, SeenIdentities

HORIZON_MS = 600_000
EVENTS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3_000_000)), max_size=80)


def judge_plainly(events: Sequence[tuple[int, int]]) -> list[int]:
    clock, seen, verdicts = -1, {}, []  # type: tuple[int, dict[int, int], list[int]]
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
@given(events=EVENTS, cuts=st.lists(st.integers(1, 20), min_size=1))
def test_verdicts_do_not_depend_on_cuts_or_restarts(
    events: list[tuple[int, int]], cuts: list[int]
) -> None:
    seen, kept, verdicts, at = SeenIdentities(HORIZON_MS, -1, {}), {}, [], 0  # type: ignore[var-annotated]
    for cut in cuts * len(events):
        part = events[at : at + cut]
        at += cut
        ids = np.array([identity for identity, _ in part], np.uint64)
        times = np.array([at_ms for _, at_ms in part], np.int64)
        verdict = seen.judge(ids, times)
        verdicts += verdict.tolist()
        for identity, at_ms in zip(ids[verdict == FRESH], times[verdict == FRESH], strict=True):
            bucket = int(at_ms) // DEDUP_BUCKET_MS
            kept[bucket] = kept.get(bucket, b"") + identity.astype("<u8").tobytes()
        floor = horizon_floor(seen.clock_ms, HORIZON_MS)
        kept = {bucket: data for bucket, data in kept.items() if bucket >= floor}
        if cut % 2:  # a new process, from what the store kept
            seen = SeenIdentities(HORIZON_MS, seen.clock_ms, kept)
    assert verdicts == judge_plainly(events)


@pytest.mark.parametrize("count", [1, 5_000])
def test_memory_is_bounded_by_the_horizon(count: int) -> None:
    seen = SeenIdentities(HORIZON_MS, -1, {})
    sizes = []
    for round_ in range(20):
        ids = np.arange(round_ * count + 1, (round_ + 1) * count + 1, dtype=np.uint64)
        assert not seen.judge(ids, np.full(count, round_ * HORIZON_MS * 2, np.int64)).any()
        sizes.append(seen.slots)
    assert max(sizes) == sizes[3]
