"""The forward pass written down again, row by row, in Python's floats."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.weights import Weights

Arrays = Mapping[str, NDArray[Any]]


def logit_of(weights: Weights, X: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([_logit(weights, row) for row in X.astype(np.float64)])


def _logit(weights: Weights, x: NDArray[np.float64]) -> float:
    mean, scale = (weights.arrays[f"scaler.{name}"].astype(float) for name in ("mean", "scale"))
    z = np.array([z_of(*at) for at in zip(x, mean, scale, strict=True)])
    total = 0.0
    for lane in weights.lanes:
        inside = 0.0
        for member in weights.members:
            if member.lane == lane.name:
                prefix = f"{lane.name}.{member.name}."
                logit = forward(member.kind, named(weights.arrays, prefix), x, z)
                inside += member.weight * (logit + math.log(member.beta))
        total += lane.weight * (lane.a * inside + lane.b)
    return total


def named(arrays: Arrays, prefix: str) -> dict[str, NDArray[Any]]:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}


def z_of(x: float, mean: float, scale: float) -> float:
    if math.isnan(x):
        return 0.0
    return min(8.0, max(-8.0, (math.copysign(math.log1p(abs(x)), x) - mean) / scale))


def forward(kind: str, arrays: Arrays, x: NDArray[np.float64], z: NDArray[np.float64]) -> float:
    if kind == "linear":
        return float(
            sum(a * b for a, b in zip(arrays["linear"], z, strict=True)) + arrays["bias"][0]
        )
    if kind == "network":
        return _network(arrays, x, z)
    return _linked(arrays, float(arrays["bias"][0]) + sum(leaves_of(arrays, x)))


def _network(arrays: Arrays, x: NDArray[np.float64], z: NDArray[np.float64]) -> float:
    v = list(z)
    for column in sorted(int(name[6:]) for name in arrays if name.startswith("embed.")):
        v += list(arrays[f"embed.{column}"][index_of(x[column], len(arrays[f"embed.{column}"]))])
    w: dict[str, Any] = {name: array.astype(np.float64) for name, array in arrays.items()}
    logits = []
    for k in range(len(w["b2"])):
        hidden = np.maximum(w["w0"][k] @ np.array(v, np.float64) + w["b0"][k], 0)
        hidden = np.maximum(w["w1"][k] @ hidden + w["b1"][k], 0)
        logits.append(float(w["w2"][k] @ hidden + w["b2"][k] + w["linear"][k] @ z))
    return sum(logits) / len(logits)


def index_of(value: float, size: int) -> int:
    if math.isnan(value) or not 0 <= value < size:
        return 0
    return int(value)


def path_of(arrays: Arrays, tree: int, x: NDArray[np.float64]) -> list[int]:
    """The nodes from the root to the leaf."""
    path = [0]
    while True:
        node = path[-1]
        value = float(x[arrays["feature"][tree, node]])
        if math.isnan(value):
            left = bool(arrays["missing_left"][tree, node])
        else:
            left = value <= float(arrays["threshold"][tree, node])
        following = int(arrays["left" if left else "right"][tree, node])
        if following == node:
            return path
        path.append(following)


def leaves_of(arrays: Arrays, x: NDArray[np.float64]) -> list[float]:
    return [
        float(arrays["value"][tree, path_of(arrays, tree, x)[-1]])
        for tree in range(len(arrays["value"]))
    ]


def moves_of(arrays: Arrays, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each feature moves a forest by, before its link."""
    moves = np.zeros(len(x))
    for tree in range(len(arrays["value"])):
        path = path_of(arrays, tree, x)
        for node, following in itertools.pairwise(path):
            step = float(arrays["value"][tree, following]) - float(arrays["value"][tree, node])
            moves[arrays["feature"][tree, node]] += step
    return moves


def _linked(arrays: Arrays, total: float) -> float:
    if not int(arrays["link"][0]):
        return total
    p = min(1 - 1e-6, max(1e-6, total))
    return math.log(p / (1 - p))
