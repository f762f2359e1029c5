"""PSI by the day is what the formula gives on the rows of the days, and bounded in memory."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.psi import BINS, DAY_MS, DAYS, PAGE_ROWS, SAMPLE_ROWS, SHARE_MIN, Psi, psi

N = 3
START = 20_000 * DAY_MS


def a_day(day: int, rows: int, seed: int, shift: float = 0.0) -> tuple[NDArray, NDArray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(shift, 1.0, (rows, N)).astype(np.float32)
    X[:, 1] = rng.poisson(0.3 + shift, rows)
    X[rng.uniform(size=rows) < 0.2 + 0.2 * shift, 2] = np.nan
    at_ms = START + day * DAY_MS + np.sort(rng.integers(0, DAY_MS, rows))
    return X, at_ms


def direct(before: NDArray, now: NDArray) -> float:
    """One feature, written down again: bins are counted value by value."""
    present = sorted(v for v in before.tolist() if not math.isnan(v))
    edges = sorted({present[k * len(present) // BINS] for k in range(1, BINS)})

    def shares(values: NDArray) -> list[float]:
        counts = [0.0] * (len(edges) + 2)
        for v in values.tolist():
            place = len(edges) + 1 if math.isnan(v) else sum(edge < v for edge in edges)
            counts[place] += 1
        counts = [max(count, SHARE_MIN) for count in counts]
        return [count / sum(counts) for count in counts]

    pairs = zip(shares(before), shares(now), strict=True)
    return sum((b - a) * np.log(b / a) for a, b in pairs)


def test_a_day_that_ended_is_held_against_the_days_before_it() -> None:
    watch = Psi(N)
    days = [a_day(0, 600, 1), a_day(1, 500, 2), a_day(2, 700, 3, shift=1.0)]
    turned = [watch.observe(X, at_ms) for X, at_ms in days]
    assert turned == [False, False, True]  # the end of day 1 has day 0 before it
    assert watch.values.max() < 0.1
    X, at_ms = a_day(3, 10, 4)
    assert watch.observe(X, at_ms)
    before = np.concatenate([days[1][0], days[0][0]])
    expected = [direct(before[:, c], days[2][0][:, c]) for c in range(N)]
    assert watch.values.tolist() == pytest.approx(expected, rel=1e-9)
    assert watch.values[0] > 0.5
    assert watch.values[2] > 0.1  # only more of it is missing


def test_the_same_distribution_gives_little() -> None:
    rng = np.random.default_rng(5)
    before, now = rng.normal(size=(7_000, 40)), rng.normal(size=(1_024, 40))
    values = psi(before.astype(np.float32), now.astype(np.float32))
    # a sum of about `BINS` squares over samples of 1 024 and 7 000: mean BINS/1024 + BINS/7000
    assert values.mean() == pytest.approx(BINS / 1_024 + BINS / 7_000, rel=0.4)
    assert values.max() < 0.05


def test_a_feature_that_is_always_missing_or_always_the_same_has_none() -> None:
    X = np.zeros((500, N), np.float32)
    X[:, 0] = np.nan
    assert psi(X, X).tolist() == pytest.approx([0, 0, 0])
    other = X.copy()
    other[:, 0], other[:, 1] = 1.0, np.nan
    assert (psi(X, other)[:2] > 1).all()


def test_more_rows_than_are_kept_are_sampled_evenly_and_always_the_same() -> None:
    rows = 20 * SAMPLE_ROWS
    X = np.arange(rows, dtype=np.float32)[:, None]
    at_ms = np.full(rows, START)
    whole, pieces = Psi(1), Psi(1)
    whole.observe(X, at_ms)
    for first in range(0, rows, 777):
        pieces.observe(X[first : first + 777], at_ms[first : first + 777])
    kept = [np.sort(np.frombuffer(page, np.float32)) for page in pages(whole)]
    assert [page.tolist() for page in kept] == [
        np.sort(np.frombuffer(page, np.float32)).tolist() for page in pages(pieces)
    ]
    sample = np.concatenate(kept)
    assert len(np.unique(sample)) == SAMPLE_ROWS
    # the mean of a uniform sample: sd = rows / √12 / √SAMPLE_ROWS
    assert abs(sample.mean() - rows / 2) < 4 * rows / np.sqrt(12 * SAMPLE_ROWS)


def pages(watch: Psi) -> list[bytes]:
    return [body for name, body in watch.state_changes().items() if name != "core"]


def test_it_goes_on_from_its_state_bit_for_bit_and_writes_only_what_changed() -> None:
    one = Psi(N)
    parts: dict[str, bytes] = {}
    for day in range(2 * DAYS):
        X, at_ms = a_day(day, 400, day)
        one.observe(X, at_ms)
        changed = one.state_changes()
        assert len(changed) <= 1 + SAMPLE_ROWS // PAGE_ROWS
        parts |= changed
    other = Psi(N)
    other.restore(parts)
    assert one.memory_bytes == other.memory_bytes == DAYS * SAMPLE_ROWS * N * 4
    for day in range(2 * DAYS, 3 * DAYS):
        X, at_ms = a_day(day, 400, day, shift=0.1 * (day - 2 * DAYS))
        assert one.observe(X, at_ms) and other.observe(X, at_ms)
        assert one.values.tolist() == other.values.tolist()


def test_late_rows_are_left_out_and_days_without_rows_are_no_reference() -> None:
    watch = Psi(N)
    X, at_ms = a_day(1, 500, 1)
    assert not watch.observe(X[:0], at_ms[:0])
    watch.observe(X, at_ms)
    watch.observe(*a_day(0, 300, 2))
    assert watch.late == 300
    watch.observe(*a_day(1 + DAYS, 500, 3))  # a gap as long as the memory
    watch.observe(*a_day(2 + DAYS, 500, 4))
    assert np.isnan(watch.values).all()
    watch.observe(*a_day(3 + DAYS, 1, 5))
    assert not np.isnan(watch.values).any()
