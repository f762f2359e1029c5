"""trees' tensors, vectors → the leaves that they end in: log-odds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from models.trees_walk import COMPILED, walk_many

P_MIN = 1e-6
"""A forest that answers with probabilities stays this far from 0 and 1."""


@dataclass(frozen=True, slots=True)
class Trees:
    """Trees over x, walked side by side, one level of all of them at a time.

    Attributes:
        side: 2·feature + missing_left of each node: its place among a row's pairs, in which a
            missing value stands as +∞ (goes right) and as -∞ (goes left).
        threshold: Left at or below it; float32, shape (T·N,).
        child: Of node i the right one at 2·i, the left one at 2·i + 1; int64, shape (2·T·N,).
        value: Expected value at each node, float32, shape (T·N,).
        root: First node of each tree, int64, shape (T,).
        walked: The same for the compiled walk; None on CUDA, and where nothing is compiled.
    """

    side: torch.Tensor
    threshold: torch.Tensor
    child: torch.Tensor
    value: torch.Tensor
    root: torch.Tensor
    bias: float
    depth: int
    link: int
    walked: "_Walked | None"

    @staticmethod
    def of(tensors: Mapping[str, torch.Tensor]) -> "Trees":
        """Lay the nodes of all trees out in one row; the tensors are copied."""
        feature = tensors["feature"].to(torch.int64)
        trees, nodes = feature.shape
        root = torch.arange(trees, device=feature.device) * nodes
        right, left = (tensors[name].to(torch.int64) + root[:, None] for name in ("right", "left"))
        return Trees(
            side=(2 * feature + tensors["missing_left"]).reshape(-1),
            threshold=tensors["threshold"].reshape(-1).clone(),
            child=torch.stack([right, left], 2).reshape(-1),
            value=tensors["value"].reshape(-1).clone(),
            root=root,
            bias=float(tensors["bias"]),
            depth=int(tensors["depth"]),
            link=int(tensors["link"]),
            walked=None if feature.is_cuda or not COMPILED else _Walked.of(tensors),
        )

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds; see `forward_torch.Member`."""
        if self.walked is not None:
            found = np.full(len(x), self.bias)
            walk_many(
                np.ascontiguousarray(x.numpy()),
                *self.walked,
                self.depth,
                np.empty(len(x), np.int32),
                found,
            )
            return self._linked(torch.from_numpy(found)).float()
        rows, sides = len(x), _sides(x)
        node = self.root.repeat(rows)
        for _ in range(self.depth):
            node = self._next(node, sides, rows)
        total = self.value.index_select(0, node).view(rows, len(self.root)).double().sum(1)
        return self._linked(total.add_(self.bias)).float()

    def _next(self, node: torch.Tensor, sides: torch.Tensor, rows: int) -> torch.Tensor:
        side = self.side.index_select(0, node).view(rows, len(self.root))
        threshold = self.threshold.index_select(0, node)
        goes_left = sides.gather(1, side).view(-1) <= threshold
        return self.child.index_select(0, torch.add(goes_left, node, alpha=2))

    def _linked(self, total: torch.Tensor) -> torch.Tensor:
        return torch.logit(total, P_MIN) if self.link else total


class _Walked(NamedTuple):
    """Nodes as `trees_walk` takes them."""

    side: NDArray[np.int32]
    threshold: NDArray[np.float32]
    child: NDArray[np.int32]
    value: NDArray[np.float32]

    @staticmethod
    def of(tensors: Mapping[str, torch.Tensor]) -> "_Walked":
        given = {name: tensor.numpy() for name, tensor in tensors.items()}
        return _Walked(
            2 * given["feature"] + given["missing_left"],
            given["threshold"].copy(),
            np.stack([given["right"], given["left"]], axis=2),
            given["value"].copy(),
        )


def _sides(x: torch.Tensor) -> torch.Tensor:
    """Return each value twice, shape (m, 2·n): where it is missing as +∞ and as -∞."""
    missing = torch.isnan(x)
    infinity = float("inf")
    pair = (x.masked_fill(missing, infinity), x.masked_fill(missing, -infinity))
    return torch.stack(pair, 2).flatten(1)
