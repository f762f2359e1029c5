"""arrays of a version → what is wrong with them: the names and shapes that each kind of member has.

A member's arrays are named "{lane}.{member}.{array}". Kinds, with n features:

- `network`, a stack of k equal networks: linear (k, n), w0 (k, h0, n + E), b0 (k, h0),
  w1 (k, h1, h0), b1 (k, h1), w2 (k, h1), b2 (k,); for each embedded category column c
  embed.<c> (size, d); E is the sum of all d.
- `linear`: linear (n,), bias (1,).
- `trees`, T trees of at most N nodes: feature, left, right, missing_left (T, N) int32; threshold,
  value (T, N); bias (1,); depth (1,) int32; link (1,) int32.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
Shapes = dict[str, tuple[str, tuple[int, ...]]]

KINDS = ("network", "linear", "trees")
QUANTILES = 1001
PROBE_ROWS_MAX = 256
STACK_MAX = 16
"""Networks of one stack."""
TREES_MAX = 4096
TREE_DEPTH_MAX = 64
LINKS = (0, 1)
NETWORK = ("linear", "w0", "b0", "w1", "b1", "w2", "b2")
NODES = ("feature", "threshold", "left", "right", "missing_left", "value")
TREES = (*NODES, "bias", "depth", "link")
INTEGERS = frozenset({"feature", "left", "right", "missing_left", "depth", "link"})


_TABLE = re.compile(r"embed\.(0|[1-9][0-9]{0,6})")


class BadWeights(ValueError):
    """The bytes are signed, and yet no version that this code can use; names the field."""


def shared_shapes(n: int, probes: int) -> Shapes:
    """Return name → (dtype, shape) of the arrays that belong to no member."""
    return {
        "scaler.mean": ("float32", (n,)),
        "scaler.scale": ("float32", (n,)),
        "quantiles": ("float32", (QUANTILES,)),
        "probe.x": ("float32", (probes, n)),
        "probe.logit": ("float32", (probes,)),
    }


def network_shapes(
    n: int, hidden: tuple[int, int], stack: int = 1, embedded: Mapping[int, tuple[int, int]] = {}
) -> Shapes:
    """Return name → (dtype, shape) of a stack of networks.

    Args:
        n: Number of features.
        hidden: Widths of the two hidden layers.
        stack: Number of networks.
        embedded: Column → (size, width) of each embedding table.
    """
    (h0, h1), width = hidden, n + sum(d for _, d in embedded.values())
    sizes = ((n,), (h0, width), (h0,), (h1, h0), (h1,), (h1,), ())
    shapes: Shapes = {
        name: ("float32", (stack, *size)) for name, size in zip(NETWORK, sizes, strict=True)
    }
    return shapes | {f"embed.{column}": ("float32", size) for column, size in embedded.items()}


def linear_shapes(n: int) -> Shapes:
    """Return name → (dtype, shape) of a linear member."""
    return {"linear": ("float32", (n,)), "bias": ("float32", (1,))}


def trees_shapes(trees: int, nodes: int) -> Shapes:
    """Return name → (dtype, shape) of a forest of trees, padded to `nodes`."""
    return {
        name: (
            "int32" if name in INTEGERS else "float32",
            (trees, nodes) if name in NODES else (1,),
        )
        for name in TREES
    }


def arrays_of(prefix: str, kind: str, arrays: Arrays) -> dict[str, Array]:
    """Return a member's arrays under their short names, those that are there."""
    names = {"network": NETWORK, "linear": ("linear", "bias"), "trees": TREES}[kind]
    found = {name: arrays[prefix + name] for name in names if prefix + name in arrays}
    if kind == "network":
        found |= {
            name[len(prefix) :]: array
            for name, array in arrays.items()
            if _TABLE.fullmatch(name, len(prefix))
        }
    return found


def embedded_columns(names: Collection[str]) -> list[int]:
    """Return the columns whose tables are among a network's arrays, ascending."""
    return sorted(int(name[6:]) for name in names if name.startswith("embed."))


def faults_of_shared(arrays: Arrays, known: Collection[str]) -> Iterator[str]:
    """Say what is wrong with the arrays that belong to no member; shapes were checked.

    Args:
        arrays: All arrays of a version.
        known: Names whose content was checked before.
    """
    if arrays["probe.x"].shape[0] > PROBE_ROWS_MAX:
        yield f"probe.x: more than {PROBE_ROWS_MAX} rows"
    if np.isinf(arrays["probe.x"]).any():  # NaN is a missing feature
        yield "probe.x: holds a number that is infinite"
    for name in ("scaler.mean", "scaler.scale", "quantiles", "probe.logit"):
        if name not in known and not is_finite(arrays[name]):
            yield f"{name}: holds a number that is not finite"
    if not (arrays["scaler.scale"] > 0).all():
        yield "scaler.scale: must be positive"
    quantiles = arrays["quantiles"]
    if (np.diff(quantiles) < 0).any() or quantiles[0] < 0 or quantiles[-1] > 1:
        yield "quantiles: must rise from 0 to 1"


def faults_of_shapes(arrays: Arrays, expected: Shapes, prefix: str = "") -> Iterator[str]:
    """Say which arrays are missing or have another dtype or shape; others are not looked at."""
    for short, (dtype, shape) in expected.items():
        array = arrays.get(prefix + short)
        if array is None:
            yield f"{prefix}{short}: missing"
        elif (array.dtype.name, array.shape) != (dtype, shape):
            yield (
                f"{prefix}{short}: expected {dtype} {shape}, found {array.dtype.name} {array.shape}"
            )


def expected_of_member(prefix: str, kind: str, arrays: Arrays, n: int) -> Shapes:
    """Return what a member must consist of, read off the sizes of its leading arrays.

    Args:
        prefix: First part of its arrays' names, with the dot.
        kind: One of `KINDS`.
        arrays: All arrays of the version.
        n: Number of features.

    Raises:
        BadWeights: A leading array is missing or beyond a limit.
    """
    if kind == "linear":
        return linear_shapes(n)
    if kind == "trees":
        trees, nodes = _two_sizes(prefix + "feature", arrays)
        _at_most(TREES_MAX, trees, f"{prefix}feature", "trees")
        return trees_shapes(trees, nodes)
    stack, h0 = _two_sizes(prefix + "b0", arrays)
    _at_most(STACK_MAX, stack, f"{prefix}b0", "networks")
    embedded = {}
    for column in embedded_columns(arrays_of(prefix, kind, arrays)):
        name = f"{prefix}embed.{column}"
        _at_most(n - 1, column, name, "as its column")
        embedded[column] = _two_sizes(name, arrays)
    return network_shapes(n, (h0, _two_sizes(prefix + "b1", arrays)[1]), stack, embedded)


def _two_sizes(name: str, arrays: Arrays) -> tuple[int, int]:
    if name not in arrays:
        raise BadWeights(f"{name}: missing")
    shape = arrays[name].shape
    if len(shape) != 2 or 0 in shape:
        raise BadWeights(f"{name}: expected two dimensions, found {shape}")
    return shape[0], shape[1]


def _at_most(limit: int, found: int, name: str, what: str) -> None:
    if found > limit:
        raise BadWeights(f"{name}: {found} {what}; at most {limit} is taken")


def faults_of_member(
    prefix: str, kind: str, arrays: Arrays, n: int, known: Collection[str]
) -> Iterator[str]:
    """Say what is wrong with the content of a member whose shapes were checked."""
    found = arrays_of(prefix, kind, arrays)
    for name, array in found.items():
        if array.dtype == np.float32 and prefix + name not in known and not is_finite(array):
            yield f"{prefix}{name}: holds a number that is not finite"
    if kind == "trees" and any(prefix + name not in known for name in found):
        fault = _fault_of_trees(found, n)
        if fault:
            yield prefix + fault


def is_finite(array: Array) -> bool:
    """Whether no number is NaN or infinite; two passes and no copy of a large table."""
    return not array.size or (math.isfinite(array.min()) and math.isfinite(array.max()))


def _fault_of_trees(found: Mapping[str, Array], n: int) -> str:
    trees, nodes = found["feature"].shape
    for name, limit in (("feature", n), ("left", nodes), ("right", nodes), ("missing_left", 2)):
        if found[name].min() < 0 or found[name].max() >= limit:
            return f"{name}: holds a number outside 0 to {limit - 1}"
    if found["link"][0] not in LINKS:
        return f"link: {found['link'][0]} is none of {LINKS}"
    depth = int(found["depth"][0])
    if not 0 <= depth <= TREE_DEPTH_MAX:
        return f"depth: {depth} lies outside 0 to {TREE_DEPTH_MAX}"
    left, right = found["left"], found["right"]
    itself = np.arange(nodes)
    inner = (left != itself) | (right != itself)
    reached = np.zeros((trees, nodes), np.bool_)
    reached[:, 0] = True
    for _ in range(depth):
        tree, node = np.nonzero(reached & inner)
        reached = np.zeros((trees, nodes), np.bool_)
        reached[tree, left[tree, node]] = True
        reached[tree, right[tree, node]] = True
    if (reached & inner).any():
        return f"left: a path is longer than the depth of {depth}, or never ends"
    return ""
