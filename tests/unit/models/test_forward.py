"""Each kind of member says what the formula says, whichever way it is computed."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import forward_trees_torch, trees_walk
from models.forward_torch import forward, scaled
from tests import oracle_forward
from tests.builders_weights import a_linear, a_network, some_rows, some_trees

N = 11
ODD = (np.nan, -1.0, -0.5, 0.0, 0.99, 1.0, 6.0, 6.5, 7.0, 8.0, 1e9, -1e30, 3e38)
"""Indices that a category column of 7 may be asked for."""


def tensors_of(arrays: dict[str, NDArray[Any]]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def z_of(X: NDArray[np.float32]) -> torch.Tensor:
    return scaled(torch.from_numpy(X), torch.full((N,), 0.5), torch.full((N,), 2.0))


def expected(kind: str, arrays: dict[str, NDArray[Any]], X: NDArray[np.float32]) -> list[float]:
    z = z_of(X).numpy().astype(np.float64)
    wide = X.astype(np.float64)
    return [oracle_forward.forward(kind, arrays, *row) for row in zip(wide, z, strict=True)]


def check(kind: str, arrays: dict[str, NDArray[Any]], X: NDArray[np.float32]) -> None:
    x, z = torch.from_numpy(X), z_of(X)
    before = x.clone()
    found = forward(kind, tensors_of(arrays), x, z)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    np.testing.assert_allclose(found, expected(kind, arrays, X), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(x, before)


def test_the_scale_is_that_of_the_written_formula() -> None:
    X = some_rows(50, N)
    X[0, :6] = (0.0, -0.0, 3e38, -3e38, np.nan, 1e-30)
    rows = [[oracle_forward.z_of(float(value), 0.5, 2.0) for value in row] for row in X]
    np.testing.assert_allclose(z_of(X), rows, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stack", [1, 3])
@pytest.mark.parametrize("embedded", [{}, {2: (7, 4)}, {0: (7, 1), 5: (3, 2), 10: (7, 8)}])
def test_networks(stack: int, embedded: dict[int, tuple[int, int]]) -> None:
    X = some_rows(30, N)
    for column in embedded:
        X[: len(ODD), column] = ODD
        X[len(ODD) :, column] = np.arange(30 - len(ODD)) % 9
    check("network", a_network(N, stack=stack, embedded=embedded), X)


def test_a_linear_member() -> None:
    check("linear", a_linear(N), some_rows(30, N))


@pytest.mark.parametrize("kind", ["network", "linear", "trees"])
def test_no_rows_are_no_log_odds(kind: str) -> None:
    arrays = {"network": a_network, "linear": a_linear, "trees": some_trees}[kind](N)
    none = torch.zeros((0, N))
    assert forward(kind, tensors_of(arrays), none, none).shape == (0,)


@pytest.fixture(params=["tensors", "walk"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways through trees: tensor operations (CUDA) and the walk (CPU)."""
    monkeypatch.setattr(forward_trees_torch, "COMPILED", request.param == "walk")
    return str(request.param)


@pytest.mark.parametrize("link", [0, 1])
@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("rows", [1, 3, 4, 40])
def test_trees(way: str, link: int, deep: bool, rows: int) -> None:
    X = some_rows(rows, N)
    arrays = some_trees(N, link=link, deep=deep, splits=30)
    arrays["bias"][0] = 0.5 if link else -3.0
    check("trees", arrays, X)


@pytest.mark.usefixtures("way")
def test_trees_split_where_a_value_equals_the_threshold() -> None:
    X = some_rows(20, N)
    arrays = some_trees(N)
    values = X[~np.isnan(X)]
    arrays["threshold"][:] = np.resize(values, arrays["threshold"].shape)
    check("trees", arrays, X)


@pytest.mark.usefixtures("way")
def test_trees_of_one_leaf_answer_with_it() -> None:
    arrays = some_trees(N, splits=0)
    found = forward("trees", tensors_of(arrays), torch.full((2, N), torch.nan), torch.zeros(2, N))
    np.testing.assert_allclose(found, [0.2 + arrays["value"].sum()] * 2, rtol=1e-6)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("bias", [-5.0, 0.5, 5.0])
def test_probabilities_beyond_the_clip_are_certain_but_finite(bias: float) -> None:
    X = some_rows(20, N)
    arrays = some_trees(N, link=1)
    arrays["bias"][0] = bias
    check("trees", arrays, X)
    if bias != 0.5:
        found = forward("trees", tensors_of(arrays), torch.from_numpy(X), z_of(X))
        np.testing.assert_allclose(np.abs(found.numpy()), 13.8155, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(0, 25), st.booleans())
def test_both_ways_through_trees_end_in_the_same_leaves(
    seed: int, trees: int, splits: int, deep: bool
) -> None:
    arrays = some_trees(N, seed=seed, trees=trees, splits=splits, deep=deep)
    arrays["value"][:] = np.round(arrays["value"] * 8) / 8  # sums are exact in any order
    tensors, X = tensors_of(arrays), some_rows(17, N, seed)
    found = {}
    for compiled in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forward_trees_torch, "COMPILED", compiled)
            found[compiled] = forward("trees", tensors, torch.from_numpy(X), z_of(X))
    assert torch.equal(found[False], found[True])
    leaves = [sum(oracle_forward.leaves_of(arrays, row)) for row in X.astype(np.float64)]
    np.testing.assert_allclose(found[True], np.array(leaves) + np.float32(0.2), rtol=1e-6)


def test_a_walked_rows_bits_do_not_depend_on_its_company() -> None:
    tensors, X = tensors_of(some_trees(N, trees=30)), some_rows(40, N)
    x, z = torch.from_numpy(X), z_of(X)
    together = forward("trees", tensors, x, z)
    for size, start in itertools.product((1, 3, 4, 7), (0, 11, 33)):
        part = slice(start, start + size)
        assert torch.equal(forward("trees", tensors, x[part], z[part]), together[part])


def test_the_walk_is_compiled_unless_compilation_is_off() -> None:
    assert hasattr(trees_walk.walk_many, "py_func") == trees_walk.COMPILED


def test_warming_up_changes_no_answer() -> None:
    arrays, X = some_trees(N), some_rows(9, N)
    before = expected("trees", arrays, X)
    trees_walk.warm_up()
    found = forward("trees", tensors_of(arrays), torch.from_numpy(X), z_of(X))
    np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-5)
