"""labelled rows → boosted trees, as arrays: a fit of LightGBM that gives the same bits each time.

Source of the settings that are fixed here: LightGBM 4.7, Parameters, `deterministic`: with
`force_row_wise` and one thread a fit depends on data and seed alone.
"""

from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from models.arrays import Array
from models.boosted_options import BoostedOptions
from models.trees import LINK_LOGIT, Arrays, Nodes, joined, logits_many, newest, packed

FITTED = (
    "learning_rate",
    "num_leaves",
    "max_depth",
    "max_bin",
    "lambda_l2",
    "min_sum_hessian_in_leaf",
    "min_data_in_leaf",
)


def fit(
    X: NDArray[np.float32],
    y: NDArray[np.uint8],
    w: NDArray[np.float32],
    options: BoostedOptions,
    seed: int,
    grown: Arrays | None = None,
) -> dict[str, Array]:
    """Fit trees; NaN is missing, and each split learns where missing goes.

    Args:
        X: Raw vectors, shape (m, n).
        y: 1 fraud, 0 legit.
        w: Importance.
        options: See there.
        seed: For LightGBM's draws.
        grown: Trees to grow on: the oldest leave so that the new ones fit in.
    """
    start, count = None, options.trees
    if grown is not None:
        start = newest(grown, options.trees - options.grow_trees)
        count = options.grow_trees
    booster = boosted(X, y, w, options, seed, count, start)
    new = exported(booster)
    return new if start is None else joined(start, new)


def boosted(
    X: NDArray[np.float32],
    y: NDArray[np.uint8],
    w: NDArray[np.float32],
    options: BoostedOptions,
    seed: int,
    count: int,
    start: Arrays | None = None,
) -> lightgbm.Booster:
    """Return LightGBM's own model of `count` trees, on top of what `start` says."""
    parameters = {name: getattr(options, name) for name in FITTED} | {
        "objective": "binary",
        "boost_from_average": False,  # as base_score=0.5: .05 of average precision on rare frauds
        "num_threads": 1,
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed % 2**31,
        "verbosity": -1,
    }
    rows = lightgbm.Dataset(
        np.array(X, np.float32),  # columns of a ring's rows lie apart
        label=np.array(y),
        weight=np.array(w),
        init_score=None if start is None else logits_many(start, X),
        params=parameters,
    )
    return lightgbm.train(parameters, rows, num_boost_round=count)


def exported(booster: lightgbm.Booster) -> dict[str, Array]:
    """Return a model's arrays: they route each float32 row as LightGBM does."""
    trees = [_nodes(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]
    return packed(trees, 0.0, LINK_LOGIT)


def _nodes(structure: dict[str, Any]) -> Nodes:
    nodes = Nodes()
    _add(nodes, structure, 0)
    return nodes


def _add(nodes: Nodes, found: dict[str, Any], depth: int) -> tuple[int, float]:
    """Write a subtree down; return its number and its rows. As deep as the tree."""
    if "left_child" not in found:
        value = float(found["leaf_value"])
        return nodes.add(value, depth), float(found.get("leaf_count", 1))
    assert found["decision_type"] == "<=", "no column is given to LightGBM as a category"
    number = nodes.add(0.0, depth)
    left, left_rows = _add(nodes, found["left_child"], depth + 1)
    right, right_rows = _add(nodes, found["right_child"], depth + 1)
    threshold = float(found["threshold"])
    # where a split saw no missing value in the fit, LightGBM takes NaN for 0
    learned = found["missing_type"] == "NaN"
    missing_left = bool(found["default_left"]) if learned else threshold >= 0.0
    nodes.split(number, int(found["split_feature"]), threshold, left, right, missing_left)
    rows = left_rows + right_rows
    share = left_rows / rows if rows else 0.5
    nodes.value[number] = share * nodes.value[left] + (1.0 - share) * nodes.value[right]
    return number, rows
