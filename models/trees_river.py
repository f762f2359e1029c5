"""River's Hoeffding trees → arrays that predict alike without River, in O(nodes).

River sends a row whose split feature is missing down the branch that saw more weight. Which one
that is moves with every row, so it is written down as it stands at the export.
"""

from collections.abc import Callable
from functools import partial
from operator import mul
from typing import Any

from river.forest import ARFClassifier
from river.tree import HoeffdingTreeClassifier

from models.arrays import Array
from models.trees import LINK_CHANCE, LINK_LOGIT, Nodes, constant, logit_of_one, packed

FRAUD, LEGIT = 1, 0


def tree_arrays(tree: HoeffdingTreeClassifier, prior: float) -> dict[str, Array]:
    """Return a tree's arrays: each leaf holds the log-odds of its share of frauds.

    Args:
        tree: Binary numeric splits and `leaf_prediction="mc"`.
        prior: Log-odds for everyone before the first row.
    """
    if tree._root is None:
        return constant(prior)
    return packed([_nodes(tree._root, logit_of_one)], 0.0, LINK_LOGIT)


def forest_arrays(forest: ARFClassifier, prior: float) -> dict[str, Array]:
    """Return a forest's arrays: the mean of its trees' probabilities, weighted by their accuracy.

    Source: `ARFClassifier.predict_proba_one`, River 0.26; a tree without a row has no vote there.
    """
    voting = []
    for tree, metric in zip(forest.data, forest._metrics, strict=False):
        if tree._root is not None:
            accuracy = metric.get()
            weighted = not forest.disable_weighted_vote and accuracy > 0.0
            voting.append((tree._root, accuracy if weighted else 1.0))
    if not voting:
        return constant(prior)
    votes = sum(vote for _, vote in voting)
    return packed(
        [_nodes(root, partial(mul, vote / votes)) for root, vote in voting],
        0.0,
        LINK_CHANCE,
    )


def leaf_of(root: Any, x: dict[int, float]) -> Any:
    """Return the leaf that a row belongs to."""
    return root.traverse(x, until_leaf=True) if hasattr(root, "children") else root


def fraud_share(stats: dict[int, float]) -> float:
    """Return a leaf's probability of fraud as River does: its share of the weight."""
    total = sum(stats.values())
    return stats.get(FRAUD, 0.0) / total if total else 0.0


def _nodes(root: Any, value_of: Callable[[float], float]) -> Nodes:
    nodes = Nodes()
    _add(nodes, root, 0, value_of)
    return nodes


def _add(
    nodes: Nodes, found: Any, depth: int, value_of: Callable[[float], float]
) -> tuple[int, float]:
    """Write a subtree down; return its number and the weight it saw. As deep as the tree."""
    if not hasattr(found, "children"):
        return nodes.add(value_of(fraud_share(found.stats)), depth), found.total_weight
    number = nodes.add(0.0, depth)
    left, left_weight = _add(nodes, found.children[0], depth + 1, value_of)
    right, right_weight = _add(nodes, found.children[1], depth + 1, value_of)
    nodes.split(
        number,
        found.feature,
        found.threshold,
        left,
        right,
        missing_left=not left_weight < right_weight,
    )
    weight = left_weight + right_weight
    share = left_weight / weight if weight else 0.5
    nodes.value[number] = share * nodes.value[left] + (1.0 - share) * nodes.value[right]
    return number, weight
