"""Columns that are no quantities: neither learner nor scorer may see them."""

import numpy as np
from numpy.typing import NDArray

from models.learner_torch import TorchLearner
from models.member_torch import Recipe
from models.scaling import LEFT_OUT, SCALE_MIN, Scaling
from models.weights import decode_verified, encode
from tests.contract.test_learner import SIGNER, STAMP

N, CATEGORY = 4, 2


def taught(categories: NDArray[np.float32], left_out: tuple[int, ...]) -> TorchLearner:
    """A learner of rows in which the category tells frauds apart, and nothing else does."""
    draws = np.random.default_rng(3)
    X = draws.lognormal(3, 1, (600, N)).astype(np.float32)
    X[:, CATEGORY] = categories
    recipe = Recipe(
        seed=1, new_rows=16, keep_rows=512, keep_frauds=256, members=1, learning_rate=3e-3
    )
    learner = TorchLearner(N, "e" * 64, recipe, left_out=left_out)
    ids = np.arange(600).astype(np.uint64)
    y = (np.arange(600) % 4 == 0).astype(np.uint8)
    for start in range(0, 600, 50):
        part = slice(start, start + 50)
        learner.observe_many(X[part], learner.predict_many(X[part]))
        learner.learn_many(X[part], y[part], ids[part])
    learner.flush()
    return learner


def telling() -> NDArray[np.float32]:
    return np.where(np.arange(600) % 4 == 0, 1_000_000, 1).astype(np.float32)


def asked(category: float) -> NDArray[np.float32]:
    X = np.random.default_rng(9).lognormal(3, 1, (50, N)).astype(np.float32)
    X[:, CATEGORY] = category
    return X


def test_a_learner_is_blind_to_what_is_left_out_and_learns_the_rest_alike() -> None:
    one, other = taught(telling(), (CATEGORY,)), taught(np.zeros(600, np.float32), (CATEGORY,))
    assert (one.predict_many(asked(1)) == one.predict_many(asked(1_000_000))).all()
    assert (one.predict_many(asked(1)) == other.predict_many(asked(7))).all()
    sighted = taught(telling(), ())
    assert sighted.predict_many(asked(1_000_000)).mean() > 3 * sighted.predict_many(asked(1)).mean()


def test_weights_carry_what_was_left_out_to_every_scorer() -> None:
    weights = taught(telling(), (CATEGORY,)).snapshot(STAMP)
    data = encode(weights, SIGNER)
    read = decode_verified(data, [SIGNER.public_key])
    assert read.arrays["scaler.scale"][CATEGORY] == np.float32(LEFT_OUT)
    assert read.arrays["scaler.mean"][CATEGORY] == 0
    assert np.isfinite(read.arrays["scaler.scale"]).all()


def test_a_scaling_follows_what_is_not_left_out() -> None:
    scaling = Scaling(2, [1])
    scaling.observe(np.array([[1.0, 5.0], [100.0, 900.0]] * 500, np.float32))
    assert SCALE_MIN < scaling.scale[0] < 10
    assert scaling.mean[0] > 1
    assert scaling.scale[1] == LEFT_OUT
    assert scaling.mean[1] == 0
