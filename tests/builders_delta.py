"""Versions that follow each other, and deltas between them, as their tests want them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.weights import LaneRef, MemberRef, Weights
from models.weights_delta import encode_delta
from tests.builders_weights import (
    SIGNER,
    a_linear,
    a_network,
    an_ensemble,
    some_trees,
    with_arrays,
)

DIGEST = "a" * 64
N = 4
TABLE = "delayed.network.embed.1"


def following(weights: Weights, **changed: NDArray[Any] | None) -> Weights:
    after = with_arrays(weights, **changed)
    return replace(after, version=weights.version + 1, labels_learned=weights.labels_learned + 9)


def same(found: Weights, expected: Weights) -> None:
    for name in Weights.__slots__:
        if name not in {"arrays", "cuts"}:
            assert getattr(found, name) == getattr(expected, name), name
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert found.arrays[name].dtype == array.dtype, name
        assert found.arrays[name].shape == array.shape, name
        assert found.arrays[name].tobytes() == array.tobytes(), name
        assert not found.arrays[name].flags.writeable


MEMBERS: dict[str, Any] = {
    "network": lambda seed: ("network", a_network(N, seed=seed, hidden=(4, 3))),
    "wide": lambda seed: (
        "network",
        a_network(N, seed=seed, hidden=(4, 3), embedded={1: (40, 3), 2: (9, 1)}),
    ),
    "stack": lambda seed: ("network", a_network(N, seed=seed, hidden=(2, 2), stack=3)),
    "logistic": lambda seed: ("linear", a_linear(N, seed=seed)),
    "boosted.1": lambda seed: ("trees", some_trees(N, seed=seed)),
    "boosted.2": lambda seed: ("trees", some_trees(N, seed=seed, trees=2, splits=2, link=1)),
}


def versions(base: Weights, names: Sequence[str], seeds: Sequence[int]) -> Weights:
    """The version that holds these members of lane `delayed`, each from its seed."""
    arrays = {n: a for n, a in base.arrays.items() if n.split(".")[0] in {"scaler", "probe"}}
    arrays["quantiles"] = base.arrays["quantiles"]
    refs = []
    for name, seed in zip(names, seeds, strict=True):
        kind, parts = MEMBERS[name](seed)
        arrays |= {f"delayed.{name}.{part}": array for part, array in parts.items()}
        refs.append(MemberRef(lane="delayed", name=name, kind=kind, weight=1 / len(names)))
    lane = LaneRef(name="delayed", weight=1.0)
    return replace(base, arrays=arrays, members=tuple(refs), lanes=(lane,))


PARENT = an_ensemble(DIGEST, N)
TABLE_AFTER = PARENT.arrays[TABLE].copy()
TABLE_AFTER[[2, 30]] += np.float32(0.5)
CURRENT = following(
    PARENT,
    delayed__network__embed__1=TABLE_AFTER,
    delayed__logistic__bias=np.ones(1, np.float32),
)
DELTA = encode_delta(PARENT, CURRENT, SIGNER)
