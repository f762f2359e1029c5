"""trees of any library → arrays of the kind `trees`, and their log-odds on the raw vector.

A tree goes left iff x[feature] ≤ threshold, and by `missing_left` where x[feature] is NaN. Node 0
is the root, a leaf points to itself; `models.weights` lists the arrays. `value` is what a leaf
adds, and at an inner node what is expected below it, for contributions.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.trees_walk import walk_many
from models.weights_kinds import Array

Arrays = Mapping[str, Array]

LINK_LOGIT = 0
"""Log-odds are bias + Σ value."""
LINK_CHANCE = 1
"""The probability is bias + Σ value, kept within `P_CLIP` of 0 and 1."""
P_CLIP = 1e-6
NODES = ("feature", "threshold", "left", "right", "missing_left", "value")
"""Arrays of shape (trees, nodes)."""
_LARGEST = np.finfo(np.float32).max


@dataclass(slots=True)
class Nodes:
    """One tree being written down, node by node; numbers as its library holds them."""

    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    missing_left: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    depth: int = 0

    def add(self, value: float, depth: int) -> int:
        """Add a leaf and return its number; `split` may make it an inner node afterwards."""
        number = len(self.feature)
        self.feature.append(0)
        self.threshold.append(0.0)
        self.left.append(number)
        self.right.append(number)
        self.missing_left.append(0)
        self.value.append(value)
        self.depth = max(self.depth, depth)
        return number

    def split(
        self, number: int, feature: int, threshold: float, left: int, right: int, missing_left: bool
    ) -> None:
        """Make a node an inner one."""
        self.feature[number] = feature
        self.threshold[number] = threshold
        self.left[number] = left
        self.right[number] = right
        self.missing_left[number] = int(missing_left)


def routed_alike(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 at or below each threshold.

    For every float32 x, x ≤ result iff x ≤ threshold: no float32 lies between the two.
    """
    bounded = np.clip(thresholds, -_LARGEST, _LARGEST)
    rounded = bounded.astype(np.float32)
    above = rounded.astype(np.float64) > bounded
    rounded[above] = np.nextafter(rounded[above], np.float32(-np.inf))
    return rounded


def packed(trees: Sequence[Nodes], bias: float, link: int) -> dict[str, Array]:
    """Return the arrays of a member; trees are padded to the longest with leaves of value 0."""
    longest = max(len(tree.feature) for tree in trees)
    itself = np.tile(np.arange(longest, dtype=np.int32), (len(trees), 1))
    shape = (len(trees), longest)
    arrays: dict[str, Array] = {
        "feature": np.zeros(shape, np.int32),
        "threshold": np.zeros(shape, np.float32),
        "left": itself.copy(),
        "right": itself.copy(),
        "missing_left": np.zeros(shape, np.int32),
        "value": np.zeros(shape, np.float32),
    }
    for row, tree in enumerate(trees):
        used = len(tree.feature)
        arrays["threshold"][row, :used] = routed_alike(np.array(tree.threshold, np.float64))
        for name in ("feature", "left", "right", "missing_left", "value"):
            arrays[name][row, :used] = getattr(tree, name)
    arrays["bias"] = np.array([bias], np.float32)
    arrays["depth"] = np.array([max(tree.depth for tree in trees)], np.int32)
    arrays["link"] = np.array([link], np.int32)
    return arrays


def constant(logit: float) -> dict[str, Array]:
    """Return the arrays of a member that says the same of everyone."""
    tree = Nodes()
    tree.add(0.0, 0)
    return packed([tree], logit, LINK_LOGIT)


def newest(arrays: Arrays, count: int) -> dict[str, Array]:
    """Return the last `count` trees, at least none."""
    first = max(0, len(arrays["feature"]) - count)
    return {name: x[first:] if name in NODES else x for name, x in arrays.items()}


def joined(older: Arrays, newer: Arrays) -> dict[str, Array]:
    """Return both members' trees as one sum; both have `LINK_LOGIT`, and bias 0 the newer one."""
    longest = max(older["feature"].shape[1], newer["feature"].shape[1])
    found: dict[str, Array] = {
        "bias": older["bias"],
        "depth": np.maximum(older["depth"], newer["depth"]),
        "link": older["link"],
    }
    for name in NODES:
        found[name] = np.concatenate([_widened(x[name], name, longest) for x in (older, newer)])
    return found


def _widened(array: Array, name: str, longest: int) -> Array:
    trees, nodes = array.shape
    beyond = np.zeros((trees, longest - nodes), array.dtype)
    if name in {"left", "right"}:
        beyond[:] = np.arange(nodes, longest)
    wide: Array = np.concatenate([array, beyond], axis=1)
    return wide


def logits_many(arrays: Arrays, X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return log-odds of raw vectors, shape (m,); sums are taken in float64."""
    total = np.full(len(X), float(arrays["bias"][0]))
    given: dict[str, Any] = dict(arrays)
    walk_many(
        np.ascontiguousarray(X, np.float32),
        2 * given["feature"] + given["missing_left"],
        given["threshold"],
        np.stack([given["right"], given["left"]], axis=2),
        given["value"],
        int(given["depth"][0]),
        np.empty(len(X), np.int32),
        total,
    )
    if int(arrays["link"][0]) == LINK_CHANCE:
        return logit_of(total)
    return total


def logit_of(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log-odds of probabilities, which are kept within `P_CLIP` of 0 and 1."""
    kept = np.clip(p, P_CLIP, 1.0 - P_CLIP)
    return np.asarray(np.log(kept) - np.log1p(-kept))


def logit_of_one(p: float) -> float:
    """Return log-odds of one probability, kept within `P_CLIP` of 0 and 1."""
    kept = min(max(p, P_CLIP), 1.0 - P_CLIP)
    return math.log(kept) - math.log1p(-kept)
