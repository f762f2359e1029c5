"""Weights, vectors → log-odds and what each feature adds to them, compiled for a CPU.

A version's arrays are laid out once and walked by compiled kernels, without a tensor library's call
per operation. Rows are worked off one by one: what a row is given does not depend on the others.

With a baseline that is the version's own, a row's contributions sum to its log-odds but for float32
rounding. They are made here whatever device scores; a scorer that rounds to bfloat16 has the
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
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models import network_walk, path_walk, trees_walk
from models.path_walk import scale_many
from models.scorer import factors_of
from models.walk_members import Member, laid_out
from models.weights_kinds import Array, arrays_of

if TYPE_CHECKING:
    from models.weights import Weights

Floats = NDArray[np.float32]
Arrays = Mapping[str, Array]


class Walk:
    """One version, ready to answer; made from arrays that nobody writes to."""

    def __init__(self, weights: "Weights", before: "Walk | None" = None) -> None:
        """Lay the arrays out for the kernels.

        Args:
            weights: The version.
            before: Of another version: members that both share are not laid out again.
        """
        held = {} if before is None else before._parts
        self._parts: dict[str, tuple[Arrays, Member]] = {}
        self._mean = weights.arrays["scaler.mean"].copy()
        self._scale = weights.arrays["scaler.scale"].copy()
        shift, factors = factors_of(weights)
        self._terms: list[tuple[Member, float]] = []
        for member in weights.members:
            arrays = arrays_of(member.prefix, member.kind, weights.arrays)
            known = held.get(member.prefix)
            part = known[1] if known and _same(known[0], arrays) else laid_out(member.kind, arrays)
            self._parts[member.prefix] = arrays, part
            if factors[member.prefix]:
                self._terms.append((part, factors[member.prefix]))
        self._shift = shift
        self.baseline = shift + sum(factor * part.start for part, factor in self._terms)

    def logit_many(self, X: Floats) -> Floats:
        """Return log-odds, float32, shape (m,), of vectors, shape (m, n_features)."""
        X, z = self._scaled(X)
        total = np.full(len(X), self._shift)
        for part, factor in self._terms:
            part.add_logit(X, z, factor, total)
        return total.astype(np.float32)

    def explain_many(self, X: Floats) -> Floats:
        """Return contributions, float32, shape (m, n_features); see `scorer.Snapshot`."""
        X, z = self._scaled(X)
        moved = np.zeros(X.shape)
        for part, factor in self._terms:
            part.add(X, z, factor, moved)
        return moved.astype(np.float32)

    def _scaled(self, X: Floats) -> tuple[Floats, Floats]:
        X = np.array(X, np.float32, order="C")  # kernels are compiled for what can be written
        z = np.empty_like(X)
        scale_many(X, self._mean, self._scale, z)
        return X, z


def _same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(one[name] is other[name] for name in one)


def warm_up() -> None:
    """Compile all walks (or load them from numba's disk cache), so that no caller waits later."""
    for kernels in (network_walk, path_walk, trees_walk):
        kernels.warm_up()
