"""Networks on a lane, and what they mean."""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.learner import Category, Part, Rows
from models.learner_torch import NetworkLearner
from tests.builders_rows import LaneOf, normalised, some_rows

CATEGORIES = (Category("mcc", 4, 300), Category("merchant", 5, 5000))


def teach(lane: LaneOf, learner: NetworkLearner, rows: Rows, size: int = 64) -> None:
    for start in range(0, len(rows), size):
        part = rows.part(slice(start, start + size))
        learner.learn_many(part)
        lane.remember(part)


def taught(lane: LaneOf, count: int = 4000, seed: int = 0) -> NetworkLearner:
    learner = NetworkLearner(lane.context)
    teach(lane, learner, some_rows(count, seed))
    return learner


def with_categories(count: int, seed: int) -> Rows:
    """Frauds are a handful of merchants, whatever the amounts are; some are missing or unknown."""
    rows = some_rows(count, seed)
    draws = np.random.default_rng(seed + 1000)
    X = rows.X.copy()
    X[:, 4] = draws.integers(0, 300, count)
    X[:, 5] = draws.integers(0, 60, count) * 83
    y = (X[:, 5] < 5 * 83).astype(np.uint8)
    X[::50, 4], X[1::50, 4], X[2::50, 4] = np.nan, 300, -1
    z = normalised(X)
    z[:, 4:] = 0.0
    return replace(rows, X=X, z=z, y=y)


def by_hand(part: Part, X: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float64]:
    """The forward pass that the format states, network by network, in float64."""
    a = {name: array.astype(np.float64) for name, array in part.arrays.items()}
    tables = sorted(int(name[6:]) for name in a if name.startswith("embed."))
    x = z.astype(np.float64)
    for column in tables:
        table = a[f"embed.{column}"]
        index = [int(v) if 0 <= v < len(table) else 0 for v in X[:, column]]
        x = np.concatenate([x, table[index]], axis=1)
    logits = []
    for k in range(len(a["b2"])):
        first = np.maximum(x @ a["w0"][k].T + a["b0"][k], 0)
        second = np.maximum(first @ a["w1"][k].T + a["b1"][k], 0)
        logits.append(second @ a["w2"][k] + a["b2"][k] + z @ a["linear"][k])
    return np.asarray(np.mean(logits, axis=0) + math.log(part.beta))
