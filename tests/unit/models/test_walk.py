"""Contributions sum to the log-odds, and are what their definition says, by independent oracles."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import network_walk, path_walk, trees_walk
from models import walk as walks
from models.bank_torch import TorchBank
from models.engine_torch import CpuEngine
from models.walk import Walk
from models.walk_members import LANES
from models.weights import MemberRef, Weights
from tests import oracle_forward, oracle_gradients
from tests.builders_weights import (
    a_linear,
    a_network,
    an_ensemble,
    some_rows,
    some_trees,
    some_weights,
    with_arrays,
)

DIGEST = "d" * 64
N = 11
POINTS = 4096
ODD = (np.nan, -1.0, -0.5, 0.0, 0.99, 1.0, 6.0, 6.5, 7.0, 8.0, 1e9, -1e30, 3e38)


def version_of(kind: str, arrays: dict[str, NDArray[np.float32]], n: int = N) -> Weights:
    """A version of one member that counts once."""
    weights = some_weights(DIGEST, n, beta=1.0)
    (lane,) = weights.lanes
    ref = MemberRef(lane=lane.name, name="only", kind=kind, weight=1.0, beta=1.0)
    rest = {name: a for name, a in weights.arrays.items() if not name.startswith(f"{lane.name}.")}
    held = rest | {f"{ref.prefix}{name}": array for name, array in arrays.items()}
    lane = type(lane)(name=lane.name, weight=1.0, a=1.0, b=0.0)
    return type(weights)(
        **{f: getattr(weights, f) for f in weights.__dataclass_fields__}
        | {"lanes": (lane,), "members": (ref,), "arrays": held}
    )


def check_sums(weights: Weights, X: NDArray[np.float32]) -> None:
    walk = Walk(weights)
    parts = walk.explain_many(X)
    assert (parts.dtype, parts.shape) == (np.float32, X.shape)
    logit = oracle_forward.logit_of(weights, X)
    total = walk.baseline + parts.astype(np.float64).sum(1)
    size = 1 + np.abs(parts).sum(1)  # parts of opposite signs may be far larger than their sum
    assert (np.abs(total - logit) / size).max(initial=0) < 2e-6


@pytest.mark.parametrize("make", [some_weights, an_ensemble])
def test_contributions_and_the_baseline_sum_to_the_log_odds(make: type) -> None:
    for seed in range(5):
        check_sums(make(DIGEST, N, seed=seed), some_rows(40, N, seed))


@pytest.mark.parametrize("make", [some_weights, an_ensemble])
@pytest.mark.parametrize("rows", [0, 1, 3, 40])
def test_log_odds_are_those_of_the_oracle_and_of_the_tensor_library(make: type, rows: int) -> None:
    for seed in range(5):
        weights, X = make(DIGEST, N, seed=seed), some_rows(rows, N, seed)
        found = Walk(weights).logit_many(X)
        assert (found.dtype, found.shape) == (np.float32, (rows,))
        expected = oracle_forward.logit_of(weights, X)
        np.testing.assert_allclose(found, expected, rtol=3e-6, atol=3e-6)
        by_tensors = TorchBank(weights, CpuEngine())
        by_tensors.write(weights)
        np.testing.assert_allclose(found, by_tensors.logit_apart(X), rtol=3e-6, atol=3e-6)


def test_a_rows_log_odds_depend_on_no_other_row() -> None:
    walk, X = Walk(an_ensemble(DIGEST, N)), some_rows(33, N)
    together = walk.logit_many(X)
    for row in range(len(X)):
        assert walk.logit_many(X[row : row + 1]).tobytes() == together[row].tobytes()


@pytest.mark.parametrize("embedded", [{}, {2: (7, 4)}, {0: (7, 1), 5: (3, 2), 10: (7, 8)}])
def test_networks_answer_as_the_oracle_does_for_odd_values(
    embedded: dict[int, tuple[int, int]],
) -> None:
    X = some_rows(16, N)
    for column in embedded or (3, 4):
        X[: len(ODD), column] = ODD
    weights = version_of("network", a_network(N, stack=3, embedded=embedded))
    expected = oracle_forward.logit_of(weights, X)
    np.testing.assert_allclose(Walk(weights).logit_many(X), expected, rtol=3e-6, atol=3e-6)


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("embedded", [{}, {2: (7, 4)}, {0: (7, 1), 5: (3, 2), 10: (7, 8)}])
def test_networks_by_many_points(stack: int, embedded: dict[int, tuple[int, int]]) -> None:
    X = some_rows(16, N)
    for column in embedded:
        X[: len(ODD), column] = ODD
    arrays = a_network(N, stack=stack, embedded=embedded)
    weights = version_of("network", arrays)
    check_sums(weights, X)
    found = Walk(weights).explain_many(X)
    mean, scale = (weights.arrays[f"scaler.{name}"].astype(float) for name in ("mean", "scale"))
    for row, x in zip(found, X.astype(np.float64), strict=True):
        expected = oracle_gradients.integrated(arrays, x, mean, scale, POINTS)
        np.testing.assert_allclose(row, expected, atol=2e-3, rtol=1e-3)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9))
def test_any_network_sums_up(seed: int, n: int, first: int, second: int) -> None:
    """Units that lie on the edge at the start or the end are there, too."""
    draws = np.random.default_rng(seed)
    arrays = a_network(n, seed=seed, hidden=(first, second))
    edge = draws.random(first) < 0.3
    arrays["b0"][0, edge] = 0.0
    arrays["w0"][0, draws.random(first) < 0.2] = 0.0
    X = some_rows(4, n, seed)
    X[:, draws.random(n) < 0.2] = np.nan
    check_sums(version_of("network", arrays, n), X)


def test_a_unit_that_reaches_the_edge_at_the_very_end_was_on() -> None:
    arrays = a_network(1, hidden=(2, 1))
    arrays["w0"][0] = [[-1.0], [1.0]]
    arrays["b0"][0] = [1.0, -1.0]
    arrays["w1"][0], arrays["b1"][0], arrays["w2"][0] = [[2.0, 5.0]], [1.0], [3.0]
    arrays["linear"][0] = 0.0
    weights = version_of("network", arrays, 1)
    mean = np.zeros(1, np.float32)
    weights = with_arrays(weights, scaler__mean=mean, scaler__scale=np.ones(1, np.float32))
    X = np.array([[math.e - 1.0]], np.float32)  # z = 1: the first unit's edge, and the second's
    np.testing.assert_allclose(Walk(weights).explain_many(X), [[-6.0]], rtol=1e-5)


def test_a_rows_bits_do_not_depend_on_its_company() -> None:
    walk, X = Walk(an_ensemble(DIGEST, N)), some_rows(33, N)
    together = walk.explain_many(X)
    alone = np.vstack([walk.explain_many(X[i : i + 1]) for i in range(33)])
    assert together.tobytes() == alone.tobytes()
    assert walk.explain_many(X).tobytes() == together.tobytes()
    assert walk.explain_many(X[:0]).shape == (0, N)


def test_what_two_versions_share_is_laid_out_once_and_explained_alike() -> None:
    one = an_ensemble(DIGEST, N)
    changed = one.arrays["feedback.network.w1"] * np.float32(1.5)
    other = with_arrays(one, feedback__network__w1=changed)
    before, X = Walk(one), some_rows(9, N)
    after = Walk(other, before)
    assert after.explain_many(X).tobytes() == Walk(other).explain_many(X).tobytes()
    assert after.explain_many(X).tobytes() != before.explain_many(X).tobytes()


def test_a_missing_feature_adds_nothing_but_in_trees() -> None:
    X = some_rows(30, N)
    for kind, arrays in (("network", a_network(N)), ("linear", a_linear(N))):
        assert (Walk(version_of(kind, arrays)).explain_many(X)[np.isnan(X)] == 0).all()


@pytest.mark.parametrize("deep", [False, True])
def test_contributions_of_trees_go_to_the_features_that_split(deep: bool) -> None:
    X = some_rows(25, N)
    arrays = some_trees(N, splits=20, deep=deep)
    walk = Walk(version_of("trees", arrays))
    moves = [oracle_forward.moves_of(arrays, row) for row in X.astype(np.float64)]
    np.testing.assert_allclose(walk.explain_many(X), moves, rtol=1e-5, atol=1e-5)
    assert walk.baseline == pytest.approx(0.2 + arrays["value"][:, 0].sum(), rel=1e-5)


@pytest.mark.parametrize("bias", [-5.0, 0.5, 5.0])
def test_chances_are_stretched_to_their_log_odds(bias: float) -> None:
    arrays = some_trees(N, link=1, splits=30)
    arrays["bias"][0] = bias
    check_sums(version_of("trees", arrays), some_rows(20, N))


def test_a_forest_whose_paths_cancel_has_parts_that_cancel() -> None:
    """The probability does not move: the log-odds' parts still say what pulled which way."""
    arrays = some_trees(1, trees=2, splits=1, link=1)
    arrays["left"][:], arrays["right"][:] = (1, 1, 2), (2, 1, 2)
    arrays["value"][:] = ((0.1, 0.2, 0.2), (0.1, 0.0, 0.0))
    arrays["depth"][0] = 1
    arrays["feature"][1] = 1
    parts = Walk(version_of("trees", arrays, 2)).explain_many(np.zeros((1, 2), np.float32))
    slope = 1 / (0.4 * 0.6)
    np.testing.assert_allclose(parts, [[0.1 * slope, -0.1 * slope]], rtol=1e-5)


@pytest.mark.skipif(not trees_walk.COMPILED, reason="nothing is compiled")
def test_the_kernels_are_compiled_ahead_and_for_every_version() -> None:
    walks.warm_up()
    kernels: list[Any] = [
        network_walk.forward_many,
        path_walk.scale_many,
        path_walk.integrate_many,
        trees_walk.walk_many,
        trees_walk.attribute_many,
    ]
    before = [len(kernel.signatures) for kernel in kernels]
    weights, X = an_ensemble(DIGEST, N), some_rows(3, N)
    for array in (X, *weights.arrays.values()):  # as they are when they come from the registry
        array.setflags(write=False)
    walk = Walk(weights)
    walk.logit_many(X)
    walk.explain_many(X)
    assert [len(kernel.signatures) for kernel in kernels] == before
    assert LANES % 8 == 0
