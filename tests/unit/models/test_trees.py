"""Trees' arrays against the formula written down again, and thresholds against every neighbour."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.trees import (
    LINK_CHANCE,
    LINK_LOGIT,
    Nodes,
    constant,
    joined,
    logits_many,
    newest,
    packed,
    routed_alike,
)
from tests.builders_weights import some_rows, some_trees
from tests.oracle_forward import forward


@given(st.floats(allow_nan=False), st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_rounded_threshold_routes_every_float32_as_the_double_does(
    threshold: float, x: float
) -> None:
    rounded = routed_alike(np.array([threshold]))[0]
    assert np.isfinite(rounded)
    if threshold >= -float(np.finfo(np.float32).max):
        assert (np.float32(x) <= rounded) == (x <= threshold)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_threshold_beside_a_value_keeps_the_value_on_its_side(x: float) -> None:
    assume(x > -float(np.finfo(np.float32).max))  # below the least value nothing is to be parted
    beside = np.array([np.nextafter(x, -np.inf), x, np.nextafter(x, np.inf)])
    assert (np.float32(x) <= routed_alike(beside)).tolist() == (x <= beside).tolist()


@pytest.mark.parametrize("link", [LINK_LOGIT, LINK_CHANCE])
def test_the_walk_is_the_formula(link: int) -> None:
    arrays = some_trees(5, link=link)
    X = some_rows(60, 5)
    expected = [forward("trees", arrays, x, x) for x in X.astype(np.float64)]
    assert logits_many(arrays, X) == pytest.approx(expected, abs=1e-6)


def test_trees_grown_later_add_to_the_older_ones() -> None:
    X = some_rows(60, 5)
    older, newer = (some_trees(5, seed=seed, splits=4 * seed) for seed in (1, 2))
    newer["bias"] = np.zeros(1, np.float32)
    both = joined(older, newer)
    assert len(both["feature"]) == len(older["feature"]) + len(newer["feature"])
    expected = logits_many(older, X) + logits_many(newer, X)
    assert logits_many(both, X) == pytest.approx(expected, abs=1e-6)
    without = logits_many(newest(both, len(newer["feature"])), X) - older["bias"][0]
    assert without == pytest.approx(logits_many(newer, X), abs=1e-6)


def test_a_constant_says_the_same_of_everyone() -> None:
    assert logits_many(constant(-2.5), some_rows(9, 4)).tolist() == [-2.5] * 9


def test_a_short_tree_is_padded_with_leaves_that_end_in_themselves() -> None:
    stump, leaf = Nodes(), Nodes()
    root = stump.add(0.0, 0)
    stump.split(root, 1, 0.5, stump.add(-1.0, 1), stump.add(1.0, 1), missing_left=True)
    leaf.add(0.25, 0)
    arrays = packed([stump, leaf], 0.0, LINK_LOGIT)
    assert arrays["left"].tolist() == [[1, 1, 2], [0, 1, 2]]
    X = np.array([[0, 0.5], [0, 0.6], [0, np.nan]], np.float32)
    assert logits_many(arrays, X).tolist() == [-0.75, 1.25, -0.75]
