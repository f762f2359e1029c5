"""The ring holds the newest rows, and its pages are the whole of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.rehearsal import PAGE_ROWS, Ring
from models.scaling import MEMORY_ROWS, PRIOR_ROWS, SCALE_MIN, Scaling

N = 2


def append(ring: Ring, first: int, count: int) -> None:
    ids = np.arange(first, first + count)
    X = np.stack([ids, -ids], axis=1).astype(np.float32)
    ring.append(X, (ids % 3 == 0).astype(np.uint8), ids.astype(np.uint64))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 900), max_size=8))
def test_it_holds_the_newest_rows_and_comes_back_from_its_pages(counts: list[int]) -> None:
    ring = Ring("r", 2 * PAGE_ROWS - 5, N)
    parts: dict[str, bytes] = {}
    total = 0
    for count in counts:
        append(ring, total, count)
        total += count
        parts |= ring.changed_pages()
    other = Ring("r", 2 * PAGE_ROWS, N)
    other.restore(parts, ring.total)
    held = range(max(0, total - 2 * PAGE_ROWS), total)
    for one in (ring, other):
        X, y, live = one.take(np.arange(one.size))
        assert sorted(X[:, 0].tolist()) == list(held)
        assert ((X[:, 0] % 3 == 0) == y).all()
        assert (X[:, 1] == -X[:, 0]).all()
        assert live.all()
        assert one.fraud_rate == pytest.approx(sum(i % 3 == 0 for i in held) / max(len(held), 1))
    assert not ring.changed_pages()
    assert ring.memory_bytes == other.memory_bytes


def test_few_rows_change_few_pages() -> None:
    ring = Ring("r", 100 * PAGE_ROWS, N)
    append(ring, 0, 50 * PAGE_ROWS)
    assert len(ring.changed_pages()) == 50
    append(ring, 0, PAGE_ROWS)
    assert set(ring.changed_pages()) == {"r/50"}


def test_forgotten_rows_have_no_weight_and_keep_their_place() -> None:
    ring = Ring("r", PAGE_ROWS, N)
    append(ring, 0, 10)
    ring.changed_pages()
    ring.forget(np.array([3, 99], np.uint64))
    assert set(ring.changed_pages()) == {"r/0"}
    assert ring.take(np.arange(10))[2].tolist() == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]
    ring.forget(np.array([3], np.uint64))
    assert not ring.changed_pages()


def test_pages_of_other_vectors_are_refused() -> None:
    ring = Ring("r", PAGE_ROWS, N)
    append(ring, 0, 10)
    with pytest.raises(ValueError, match="size"):
        Ring("r", PAGE_ROWS, N + 1).restore(ring.changed_pages(), 10)


def test_a_ring_knows_how_many_rows_came_after_one() -> None:
    ring = Ring("r", PAGE_ROWS, N)
    assert ring.ages(np.array([5], np.uint64)).tolist() == [-1]
    append(ring, 0, 200)
    append(ring, 200, 100)  # the first 44 have left
    asked = np.array([299, 250, 44, 43, 10_000], np.uint64)
    assert ring.ages(asked).tolist() == [0, 49, 255, -1, -1]


def test_scaling_is_mean_and_deviation_of_all_rows_and_the_prior() -> None:
    draws = np.random.default_rng(3)
    X = draws.lognormal(2, 2, (500, 3)).astype(np.float32) * draws.choice([-1, 1], (500, 3))
    X = X.astype(np.float32)
    X[draws.random(X.shape) < 0.3] = np.nan
    X[:, 2] = np.nan
    scaling = Scaling(3)
    for part in np.array_split(X, 7):
        scaling.observe(part)
    z = np.sign(X.astype(np.float64)) * np.log1p(np.abs(X.astype(np.float64)))
    for column in range(2):
        seen = z[~np.isnan(z[:, column]), column]
        count = len(seen) + PRIOR_ROWS  # the prior: ten rows of mean 0 and deviation 1
        mean = seen.sum() / count
        second = (np.square(seen).sum() + PRIOR_ROWS) / count
        assert scaling.mean[column] == pytest.approx(mean)
        assert scaling.scale[column] == pytest.approx(np.sqrt(second - mean**2))
    assert (scaling.mean[2], scaling.scale[2]) == (0.0, 1.0)


def test_scaling_follows_a_drift_and_never_divides_by_nothing() -> None:
    scaling = Scaling(1)
    old = np.zeros((int(MEMORY_ROWS), 1), np.float32)
    new = np.full((int(MEMORY_ROWS), 1), np.e - 1, np.float32)
    scaling.observe(old)
    assert scaling.scale[0] > SCALE_MIN
    for _ in range(6):
        scaling.observe(new)
    assert scaling.count[0] == MEMORY_ROWS
    assert scaling.mean[0] > 0.98  # without fading it would be 6/7
    for _ in range(40):
        scaling.observe(new)
    assert scaling.scale[0] == pytest.approx(SCALE_MIN, rel=1e-3)
