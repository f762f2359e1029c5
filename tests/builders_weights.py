"""Versions of Weights as a learner might publish them: any kinds, any shapes, honest probes."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from models.signing import Signer
from models.weights import LaneRef, MemberRef, Weights
from models.weights_kinds import linear_shapes, network_shapes, shared_shapes
from tests.oracle_forward import logit_of

NOW_MS = 1_772_366_400_000
SIGNER = Signer(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
KEYS = (SIGNER.public_key,)
ENSEMBLE = ("feedback.network", "delayed.network", "delayed.logistic", "delayed.boosted.3")

Arrays = dict[str, NDArray[Any]]


def a_network(
    n: int,
    *,
    seed: int = 1,
    stack: int = 1,
    hidden: tuple[int, int] = (16, 8),
    embedded: Mapping[int, tuple[int, int]] | None = None,
) -> Arrays:
    rng = np.random.default_rng(seed)
    shapes = network_shapes(n, hidden, stack, embedded or {})
    return {
        name: (rng.normal(size=shape) * 0.4).astype(np.float32)
        for name, (_, shape) in shapes.items()
    }


def a_linear(n: int, *, seed: int = 1) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=shape).astype(np.float32)
        for name, (_, shape) in linear_shapes(n).items()
    }


def some_trees(
    n: int, *, seed: int = 1, trees: int = 4, splits: int = 9, deep: bool = False, link: int = 0
) -> Arrays:
    """Trees grown by random splits; `deep`: each split is of the newest leaf, a list almost."""
    rng = np.random.default_rng(seed)
    nodes = 2 * splits + 1
    itself = np.tile(np.arange(nodes, dtype=np.int32), (trees, 1))
    left, right, longest = itself.copy(), itself.copy(), 0
    for tree in range(trees):
        depths, used = {0: 0}, 1
        for _ in range(splits if tree else splits // 2):  # the first one is padded
            node = max(depths) if deep else int(rng.choice(list(depths)))
            below = depths.pop(node) + 1
            left[tree, node], right[tree, node] = used, used + 1
            depths |= {used: below, used + 1: below}
            used, longest = used + 2, max(longest, below)
    scale = 0.3 / trees if link else 1.0
    return {
        "feature": rng.integers(0, n, (trees, nodes)).astype(np.int32),
        "threshold": (rng.normal(size=(trees, nodes)) * 30).astype(np.float32),
        "left": left,
        "right": right,
        "missing_left": rng.integers(0, 2, (trees, nodes)).astype(np.int32),
        "value": (rng.normal(size=(trees, nodes)) * scale).astype(np.float32),
        "bias": np.array([0.2], np.float32),
        "depth": np.array([longest], np.int32),
        "link": np.array([link], np.int32),
    }


def some_rows(count: int, n: int, seed: int = 7) -> NDArray[np.float32]:
    """Rows of all magnitudes; one value in ten is missing."""
    rng = np.random.default_rng(seed)
    X = (rng.normal(size=(count, n)) * 10 ** rng.uniform(-2, 6, size=(1, n))).astype(np.float32)
    X[rng.uniform(size=X.shape) < 0.1] = np.nan
    return X


def some_weights(
    digest: str,
    n: int,
    *,
    version: int = 1,
    beta: float = 0.5,
    seed: int | None = None,
    stack: int = 1,
) -> Weights:
    """One lane with one stack of networks."""
    seed = version if seed is None else seed
    members = {"delayed.network": ("network", a_network(n, seed=seed, stack=stack))}
    return _weights(digest, n, members, version, [beta], seed)


def an_ensemble(digest: str, n: int, *, version: int = 1, seed: int | None = None) -> Weights:
    """Two lanes and every kind, `ENSEMBLE`."""
    seed = version if seed is None else seed
    kinds = (
        ("network", a_network(n, seed=seed)),
        ("network", a_network(n, seed=seed + 1, stack=2, embedded={1: (50, 3), n - 1: (7, 2)})),
        ("linear", a_linear(n, seed=seed)),
        ("trees", some_trees(n, seed=seed)),
    )
    members = dict(zip(ENSEMBLE, kinds, strict=True))
    return _weights(digest, n, members, version, [0.5, 0.25, 1.0, 1.0], seed)


def with_arrays(weights: Weights, **changed: NDArray[Any] | None) -> Weights:
    """The same with other arrays; "__" stands for the dot; None takes one away."""
    named = {name.replace("__", "."): array for name, array in changed.items()}
    both = {name: array for name, array in (weights.arrays | named).items() if array is not None}
    return dataclasses.replace(weights, arrays=both)


def probed(weights: Weights) -> Weights:
    """The same with the log-odds that its golden batch has by the formula."""
    logit = logit_of(weights, weights.arrays["probe.x"]).astype(np.float32)
    return with_arrays(weights, probe__logit=logit)


def _weights(
    digest: str,
    n: int,
    members: Mapping[str, tuple[str, Arrays]],
    version: int,
    betas: Sequence[float],
    seed: int,
    probes: int = 5,
) -> Weights:
    rng = np.random.default_rng(seed)
    arrays: Arrays = {
        name: (rng.normal(size=shape) * 0.4).astype(np.float32)
        for name, (_, shape) in shared_shapes(n, probes).items()
    }
    arrays["scaler.scale"] = rng.uniform(0.5, 2.0, n).astype(np.float32)
    arrays["quantiles"] = np.linspace(0, 1, 1001).astype(np.float32)
    arrays["probe.x"] = (rng.normal(size=(probes, n)) * 50).astype(np.float32)
    arrays["probe.x"][0, 0] = np.nan
    for name, (_, parts) in members.items():
        arrays |= {f"{name}.{part}": array for part, array in parts.items()}
    lanes = dict.fromkeys(name.split(".")[0] for name in members)
    counts = {lane: sum(name.startswith(f"{lane}.") for name in members) for lane in lanes}
    refs = tuple(
        MemberRef(
            lane=name.split(".")[0],
            name=name.split(".", 1)[1],
            kind=kind,
            weight=1 / counts[name.split(".")[0]],
            beta=beta,
        )
        for (name, (kind, _)), beta in zip(members.items(), betas, strict=True)
    )
    weights = Weights(
        model="champion",
        version=version,
        schema_digest=digest,
        parent_sha256="",
        offsets={},
        learned_until_ms=NOW_MS - 500,
        labels_learned=3,
        created_at_ms=NOW_MS - 400,
        metrics={},
        code_version="test",
        lanes=tuple(
            LaneRef(name=lane, weight=1 / len(lanes), a=0.9 + 0.2 * i, b=-0.1)
            for i, lane in enumerate(lanes)
        ),
        members=refs,
        arrays=arrays,
    )
    return probed(weights)
