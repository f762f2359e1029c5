"""Weights, vectors → what each feature adds to the log-odds, exactly: contributions of a version.

With a baseline that is the version's own, a row's contributions sum to its log-odds but for float32
rounding. They are made on a CPU, whatever device scores: by the version's arrays and compiled
kernels, without a tensor library's call per operation. A scorer that rounds to bfloat16 has the
contributions of float32, which sum to the log-odds of float32.

- linear terms: coefficient times z;
- networks: the integrated gradient on the straight way from the mean vector (z = 0, every category
  absent), in closed form (`path_walk`). A category adds what its embedding does;
- trees: what the expected value moves by at each split of the path, with log-odds of chances
  stretched to their sum.

For networks and linear terms a missing feature adds 0; trees may have learned that it is missing.
Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017; Saabas,
Interpreting random forests, 2014.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from models.path_walk import NARROW_ROOMS, WIDE_ROOMS, integrate_many, scale_many
from models.scorer import factors_of
from models.trees import LINK_CHANCE, P_CLIP, logit_of
from models.trees_walk import attribute_many
from models.weights_kinds import Array, arrays_of, embedded_columns

if TYPE_CHECKING:
    from models.weights import Weights

LANES = 32
"""Inputs of a network are padded to a multiple of this, so that loops end with whole vectors."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Arrays = Mapping[str, Array]


class _Part(Protocol):
    """One member, ready to explain. `start` is its log-odds at the baseline."""

    @property
    def start(self) -> float:
        """Log-odds at the baseline."""

    def add(self, X: Floats, z: Floats, factor: float, moved: Doubles) -> None:
        """Add factor times its contributions, shape (m, n), to `moved`."""


class Explainer:
    """One version, ready to explain; made from arrays that nobody writes to."""

    def __init__(self, weights: "Weights", before: "Explainer | None" = None) -> None:
        """Lay the arrays out for the kernels.

        Args:
            weights: The version.
            before: Of another version: members that both share are not laid out again.
        """
        held = {} if before is None else before._parts
        self._parts: dict[str, tuple[Arrays, _Part]] = {}
        self._mean = weights.arrays["scaler.mean"].copy()
        self._scale = weights.arrays["scaler.scale"].copy()
        shift, factors = factors_of(weights)
        self._terms: list[tuple[_Part, float]] = []
        for member in weights.members:
            arrays = arrays_of(member.prefix, member.kind, weights.arrays)
            known = held.get(member.prefix)
            part = known[1] if known and _same(known[0], arrays) else _part(member.kind, arrays)
            self._parts[member.prefix] = arrays, part
            if factors[member.prefix]:
                self._terms.append((part, factors[member.prefix]))
        self.baseline = shift + sum(factor * part.start for part, factor in self._terms)

    def explain_many(self, X: Floats) -> Floats:
        """Return contributions, float32, shape (m, n_features); see `scorer.Snapshot`."""
        X = np.array(X, np.float32, order="C")
        z = np.empty_like(X)
        scale_many(X, self._mean, self._scale, z)
        moved = np.zeros(X.shape)
        for part, factor in self._terms:
            part.add(X, z, factor, moved)
        return moved.astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    linear: Floats
    start: float

    def add(self, X: Floats, z: Floats, factor: float, moved: Doubles) -> None:
        moved += z * (factor * self.linear.astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class _Network:
    """A stack laid out for `path_walk.integrate_many`; names as there.

    Attributes:
        tables: Column, where its inputs begin, and its embeddings less that of absence.
    """

    linear: Doubles
    w0: Floats
    w0_across: Floats
    at_start: Floats
    second_at_start: Floats
    w1: Floats
    w2: Floats
    target: NDArray[np.int64]
    tables: tuple[tuple[int, int, Floats], ...]
    start: float

    @staticmethod
    def of(arrays: Arrays) -> "_Network":
        k, n = arrays["linear"].shape
        inputs = arrays["w0"].shape[2]
        padded = -(-inputs // LANES) * LANES
        w0 = np.zeros((k, arrays["w0"].shape[1], padded), np.float32)
        w0[:, :, :inputs] = arrays["w0"]
        target, tables, end = np.zeros(padded, np.int64), [], n
        target[:n] = np.arange(n)
        absent = np.zeros(inputs - n)
        for column in embedded_columns(arrays):
            table = arrays[f"embed.{column}"]
            tables.append((column, end, table))
            target[end : end + table.shape[1]] = column
            absent[end - n : end - n + table.shape[1]] = table[0]
            end += table.shape[1]
        at_start = arrays["b0"] + arrays["w0"][:, :, n:].astype(np.float64) @ absent
        second = (np.maximum(at_start, 0)[:, None] * arrays["w1"]).sum(2) + arrays["b1"]
        logits = (np.maximum(second, 0) * arrays["w2"]).sum(1) + arrays["b2"]
        flat = w0.reshape(-1, padded)
        return _Network(
            linear=arrays["linear"].mean(0, dtype=np.float64),
            w0=flat,
            w0_across=np.ascontiguousarray(flat.T),
            at_start=at_start.astype(np.float32),
            second_at_start=second.astype(np.float32),
            w1=np.ascontiguousarray(arrays["w1"].transpose(0, 2, 1)),
            w2=arrays["w2"].copy(),
            target=target,
            tables=tuple(tables),
            start=float(logits.mean()),
        )

    def add(self, X: Floats, z: Floats, factor: float, moved: Doubles) -> None:
        rows, n = z.shape
        k, h0, h1 = self.w1.shape
        padded = self.w0.shape[1]
        way = np.zeros((rows, padded), np.float32)
        way[:, :n] = z
        for column, begin, table in self.tables:
            found = X[:, column]
            inside = (found >= 0) & (found < len(table))  # NaN is not
            row = np.where(inside, found, 0).astype(np.int64)
            way[:, begin : begin + table.shape[1]] = table[row] - table[0]
        integrate_many(
            way,
            self.target,
            self.w0,
            self.w0_across,
            self.at_start,
            self.second_at_start,
            self.w1,
            self.w2,
            factor / k,
            np.empty(h0, np.int64),
            np.empty((WIDE_ROOMS, max(k * h0, padded)), np.float32),
            np.empty((NARROW_ROOMS, h1), np.float32),
            moved,
        )
        moved += z * (factor * self.linear)


@dataclass(frozen=True, slots=True, eq=False)
class _Trees:
    """A forest laid out for `trees_walk.attribute_many`; names as there."""

    side: NDArray[np.int32]
    threshold: Floats
    child: NDArray[np.int32]
    value: Floats
    depth: int
    chance: bool
    root: float
    start: float

    @staticmethod
    def of(arrays: Arrays) -> "_Trees":
        root = float(arrays["bias"][0]) + float(arrays["value"][:, 0].sum(dtype=np.float64))
        chance = int(arrays["link"][0]) == LINK_CHANCE
        return _Trees(
            side=2 * arrays["feature"] + arrays["missing_left"],
            threshold=arrays["threshold"].copy(),
            child=np.stack([arrays["right"], arrays["left"]], axis=2),
            value=arrays["value"].copy(),
            depth=int(arrays["depth"][0]),
            chance=chance,
            root=root,
            start=float(logit_of(np.array([root]))[0]) if chance else root,
        )

    def add(self, X: Floats, z: Floats, factor: float, moved: Doubles) -> None:
        own = np.zeros(X.shape)
        attribute_many(X, self.side, self.threshold, self.child, self.value, self.depth, own)
        if self.chance:
            own *= self._stretch(own.sum(1))[:, None]
        moved += factor * own

    def _stretch(self, by: Doubles) -> Doubles:
        """Return the log-odds' move per move of the chance, shape (m,)."""
        apart = logit_of(self.root + by) - self.start
        at = min(max(self.root, P_CLIP), 1.0 - P_CLIP)
        still = by == 0
        return np.where(still, 1.0 / (at * (1.0 - at)), apart / np.where(still, 1.0, by))


def _part(kind: str, arrays: Arrays) -> _Part:
    if kind == "network":
        return _Network.of(arrays)
    if kind == "linear":
        return _Linear(arrays["linear"].copy(), float(arrays["bias"][0]))
    assert kind == "trees", kind
    return _Trees.of(arrays)


def _same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)
