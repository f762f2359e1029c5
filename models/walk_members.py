"""members' arrays → members laid out for compiled kernels: log-odds and contributions on a CPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.network_walk import forward_many
from models.path_walk import NARROW_ROOMS, WIDE_ROOMS, integrate_many
from models.trees import LINK_CHANCE, P_CLIP, logit_of
from models.trees_walk import attribute_many, walk_many
from models.weights_kinds import Array, embedded_columns

LANES = 32
"""Inputs of a network are padded to a multiple of this, so that loops end with whole vectors."""

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Arrays = Mapping[str, Array]


class Member(Protocol):
    """One member, ready to answer. `start` is its log-odds at the baseline."""

    @property
    def start(self) -> float:
        """Log-odds at the baseline."""

    def add_logit(self, X: Floats, z: Floats, factor: float, total: Doubles) -> None:
        """Add factor times its log-odds, shape (m,), to `total`.

        Args:
            X: Vectors as they are scored, shape (m, n), C order; NaN = missing.
            z: The same, scaled.
            factor: What the member counts for.
            total: Shape (m,); added to.
        """

    def add(self, X: Floats, z: Floats, factor: float, moved: Doubles) -> None:
        """Add factor times its contributions, shape (m, n), to `moved`; else as `add_logit`."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """log-odds = linear·z + bias, which is what they start from."""

    linear: Floats
    start: float

    def add_logit(self, X: Floats, z: Floats, factor: float, total: Doubles) -> None:
        """See `Member`."""
        total += factor * ((z * self.linear.astype(np.float64)).sum(1) + self.start)

    def add(self, X: Floats, z: Floats, factor: float, moved: Doubles) -> None:
        """See `Member`."""
        moved += z * (factor * self.linear.astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A stack laid out for `path_walk` and `network_walk`; names as there.

    Its way begins at the baseline, so that inputs that are missing cost nothing.

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
    b1: Floats
    bias: float
    target: NDArray[np.int64]
    tables: tuple[tuple[int, int, Floats], ...]
    start: float

    @staticmethod
    def of(arrays: Arrays) -> "Network":
        """Lay out what is given, and copy it."""
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
        return Network(
            linear=arrays["linear"].mean(0, dtype=np.float64),
            w0=flat,
            w0_across=np.ascontiguousarray(flat.T),
            at_start=at_start.astype(np.float32),
            second_at_start=second.astype(np.float32),
            w1=np.ascontiguousarray(arrays["w1"].transpose(0, 2, 1)),
            w2=arrays["w2"].copy(),
            b1=arrays["b1"].copy(),
            bias=float(arrays["b2"].mean(dtype=np.float64)),
            target=target,
            tables=tuple(tables),
            start=float(logits.mean()),
        )

    def add_logit(self, X: Floats, z: Floats, factor: float, total: Doubles) -> None:
        """See `Member`."""
        k, h0, h1 = self.w1.shape
        forward_many(
            self._way(X, z),
            self.w0_across,
            self.at_start,
            self.w1,
            self.b1,
            self.w2,
            self.linear,
            self.bias,
            factor,
            np.empty(k * h0, np.float32),
            np.empty(h1, np.float32),
            total,
        )

    def _way(self, X: Floats, z: Floats) -> Floats:
        """Return what the first layer is given, less what it is given at the baseline."""
        rows, n = z.shape
        way = np.zeros((rows, self.w0.shape[1]), np.float32)
        way[:, :n] = z
        for column, begin, table in self.tables:
            found = X[:, column]
            inside = (found >= 0) & (found < len(table))  # NaN is not
            row = np.where(inside, found, 0).astype(np.int64)
            way[:, begin : begin + table.shape[1]] = table[row] - table[0]
        return way

    def add(self, X: Floats, z: Floats, factor: float, moved: Doubles) -> None:
        """See `Member`."""
        k, h0, h1 = self.w1.shape
        padded = self.w0.shape[1]
        integrate_many(
            self._way(X, z),
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
class Trees:
    """A forest laid out for `trees_walk`; names as there."""

    side: NDArray[np.int32]
    threshold: Floats
    child: NDArray[np.int32]
    value: Floats
    depth: int
    chance: bool
    bias: float
    root: float
    start: float

    @staticmethod
    def of(arrays: Arrays) -> "Trees":
        """Lay out what is given, and copy it."""
        root = float(arrays["bias"][0]) + float(arrays["value"][:, 0].sum(dtype=np.float64))
        chance = int(arrays["link"][0]) == LINK_CHANCE
        return Trees(
            side=2 * arrays["feature"] + arrays["missing_left"],
            threshold=arrays["threshold"].copy(),
            child=np.stack([arrays["right"], arrays["left"]], axis=2),
            value=arrays["value"].copy(),
            depth=int(arrays["depth"][0]),
            chance=chance,
            bias=float(arrays["bias"][0]),
            root=root,
            start=float(logit_of(np.array([root]))[0]) if chance else root,
        )

    def add_logit(self, X: Floats, z: Floats, factor: float, total: Doubles) -> None:
        """See `Member`."""
        own = np.full(len(X), self.bias)
        places = np.empty(len(X), np.int32)
        walk_many(X, self.side, self.threshold, self.child, self.value, self.depth, places, own)
        total += factor * (logit_of(own) if self.chance else own)

    def add(self, X: Floats, z: Floats, factor: float, moved: Doubles) -> None:
        """See `Member`."""
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


def laid_out(kind: str, arrays: Arrays) -> Member:
    """Return a member of one kind around its arrays (`weights_kinds`), by their short names."""
    if kind == "network":
        return Network.of(arrays)
    if kind == "linear":
        return Linear(arrays["linear"].copy(), float(arrays["bias"][0]))
    assert kind == "trees", kind
    return Trees.of(arrays)
