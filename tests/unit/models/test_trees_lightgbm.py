"""Exported trees against LightGBM's own raw scores, on rows that lie on its thresholds, too."""

import numpy as np
import pytest
from numpy.typing import NDArray

from models.boosted_options import BoostedOptions
from models.trees import logits_many
from models.trees_lightgbm import boosted, exported, fit

Data = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]
OPTIONS = BoostedOptions(trees=30, num_leaves=16, learning_rate=0.2, grow_trees=5)


def some_data(missing: float, seed: int = 1, count: int = 1500) -> Data:
    """Few distinct values of the first feature, all magnitudes in the second, ±0 in the third."""
    draws = np.random.default_rng(seed)
    X = draws.normal(size=(count, 4)).astype(np.float32)
    X[:, 0] = draws.integers(0, 5, count) / 10
    X[:, 1] *= 10.0 ** draws.integers(-30, 30, count)
    X[:, 2] = np.where(draws.random(count) < 0.5, -0.0, np.round(X[:, 2]))
    y = (np.nan_to_num(X[:, 0]) * 4 + X[:, 3] + (X[:, 1] > 1e3) > 1.5).astype(np.uint8)
    X[draws.random(X.shape) < missing] = np.nan
    return X, y, draws.uniform(0.5, 10, count).astype(np.float32)


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("max_bin", [15, 255])
def test_the_export_scores_as_lightgbm_does(missing: float, max_bin: int) -> None:
    X, y, w = some_data(missing)
    options = BoostedOptions(trees=30, num_leaves=16, learning_rate=0.2, max_bin=max_bin)
    booster = boosted(X, y, w, options, 1, 30)
    others = some_data(0.3, seed=2)[0]  # missing where no row of the fit was
    beside = np.concatenate([np.nextafter(X, side) for side in np.float32([-np.inf, np.inf])])
    for rows in (X, others, beside, np.full((1, 4), np.nan, np.float32)):
        expected = booster.predict(rows, raw_score=True)
        assert logits_many(exported(booster), rows) == pytest.approx(expected, abs=1e-5)


def test_the_same_data_and_seed_give_the_same_trees() -> None:
    first, same = (fit(*some_data(0.1), OPTIONS, 3) for _ in range(2))
    assert {name: x.tobytes() for name, x in first.items()} == {
        name: x.tobytes() for name, x in same.items()
    }


def test_growing_adds_new_trees_and_drops_the_oldest() -> None:
    data = some_data(0.1)
    first = fit(*data, OPTIONS, 3)
    grown = fit(*some_data(0.1, seed=5), OPTIONS, 3, first)
    assert grown["value"].shape[0] == 30
    width = first["value"].shape[1]
    assert grown["value"][:25, :width].tobytes() == first["value"][5:].tobytes()


def test_what_is_grown_corrects_what_stands() -> None:
    """The new trees start from what the kept ones say: the log loss on the new rows falls."""
    turned = some_data(0.1, seed=5)
    X, y = turned[0], (1 - turned[1]).astype(np.uint8)
    standing = fit(*some_data(0.1), OPTIONS, 3)
    losses = []
    for _ in range(4):
        logit = logits_many(standing, X)
        losses.append(float(np.mean(np.logaddexp(0, np.where(y == 1, -logit, logit)))))
        standing = fit(X, y, turned[2], OPTIONS, 3, standing)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * losses[0]


def test_an_inner_node_holds_what_is_expected_below_it() -> None:
    """The root's value is the mean over the rows of the fit, tree by tree."""
    X, y, w = some_data(0.1)
    arrays = fit(X, y, w, OPTIONS, 3)
    mean = logits_many(arrays, X).mean()
    assert arrays["value"][:, 0].sum() == pytest.approx(mean, abs=1e-4)


def test_one_value_everywhere_grows_no_branch() -> None:
    X = np.ones((50, 3), np.float32)
    y = (np.arange(50) % 5 == 0).astype(np.uint8)
    arrays = fit(X, y, np.ones(50, np.float32), OPTIONS, 1)
    assert arrays["depth"].tolist() == [0]
    assert np.isfinite(logits_many(arrays, X)).all()
