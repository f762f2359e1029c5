"""Columns that are no quantities, and the one formula between vectors and what networks see."""

import numpy as np
import pytest

from models.scaling import LEFT_OUT, SCALE_MIN, Normaliser, Scaling

N, CATEGORY = 4, 2


def some_vectors(count: int, seed: int = 3) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    draws = np.random.default_rng(seed)
    X = (draws.lognormal(3, 2, (count, N)) * draws.choice([-1, 1], (count, N))).astype(np.float32)
    X[draws.random(X.shape) < 0.2] = np.nan
    return X


def test_a_scaling_follows_what_is_not_left_out() -> None:
    scaling = Scaling(2, [1])
    scaling.observe(np.array([[1.0, 5.0], [100.0, 900.0]] * 500, np.float32))
    assert SCALE_MIN < scaling.scale[0] < 10
    assert scaling.mean[0] > 1
    assert scaling.scale[1] == LEFT_OUT
    assert scaling.mean[1] == 0


def test_vectors_become_what_the_published_formula_says() -> None:
    normaliser = Normaliser(N, [CATEGORY])
    normaliser.observe(some_vectors(500))
    X = some_vectors(50, 4)
    X[0] = [np.finfo(np.float32).max, -np.inf, 7, np.nan]
    z = normaliser.transform(X)
    assert (z.dtype, z.shape) == (np.float32, X.shape)
    for row, found in zip(X.astype(np.float64), z, strict=True):
        for column in range(N):
            value = row[column]
            if np.isnan(value) or column == CATEGORY:
                assert found[column] == 0
                continue
            log = np.sign(value) * np.log1p(abs(value))
            wanted = (log - normaliser.mean[column]) / normaliser.scale[column]
            assert found[column] == pytest.approx(np.clip(wanted, -8, 8), abs=1e-5)


def test_what_is_left_out_changes_nothing_of_the_rest() -> None:
    one, other = Normaliser(N, [CATEGORY]), Normaliser(N, [CATEGORY])
    X = some_vectors(300)
    changed = X.copy()
    changed[:, CATEGORY] = 1_000_000
    one.observe(X)
    other.observe(changed)
    assert (one.transform(X) == other.transform(changed)).all()


def test_a_normaliser_comes_back_bit_for_bit() -> None:
    one, other = Normaliser(N, [CATEGORY]), Normaliser(N, [CATEGORY])
    one.observe(some_vectors(300))
    other.restore(one.state())
    for normaliser in (one, other):
        normaliser.observe(some_vectors(70, 9))
    assert one.state() == other.state()
