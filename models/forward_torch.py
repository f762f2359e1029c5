"""members' arrays, vectors → log-odds: the forward pass, once.

Scorer and learners call this and nothing else, on a CPU or on CUDA alike: plain tensor
operations, no gradients kept. The golden batch in every version is the proof that two builds
agree (`models/scorer.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from models.forward_trees_torch import Trees
from models.weights_kinds import embedded_columns

CLAMP = 8.0

Tensors = Mapping[str, torch.Tensor]


class Member(Protocol):
    """One member, ready to answer; its tensors may be written between two calls."""

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds, shape (m,).

        Args:
            x: Vectors as they were scored, float32, shape (m, n); NaN = missing.
            z: The same, `scaled`.
        """


def scaled(x: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return vectors on the scale of z: signed logarithm, standardised, NaN → 0, within ±8."""
    z = torch.log1p(torch.abs(x)).copysign_(x).sub_(mean).div_(scale)
    return z.nan_to_num_(nan=0.0).clamp_(-CLAMP, CLAMP)


def prepare(kind: str, tensors: Tensors) -> Member:
    """Return a member of one kind around its tensors (`weights_kinds`), by their short names."""
    if kind == "network":
        return Network.of(tensors)
    if kind == "linear":
        return Linear(tensors["linear"], tensors["bias"])
    assert kind == "trees", kind
    return Trees.of(tensors)


def forward(kind: str, tensors: Tensors, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return a member's log-odds, shape (m,), before ln β; see `Member.forward`."""
    with torch.inference_mode():
        return prepare(kind, tensors).forward(x, z)


@dataclass(frozen=True, slots=True)
class Linear:
    """log-odds = linear·z + bias."""

    linear: torch.Tensor
    bias: torch.Tensor

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds; see `Member`."""
        return torch.mv(z, self.linear).add_(self.bias)


@dataclass(frozen=True, slots=True)
class Network:
    """A stack of k equal networks over z and shared embeddings of categories, averaged."""

    tensors: Tensors
    columns: torch.Tensor
    sizes: torch.Tensor
    tables: tuple[torch.Tensor, ...]

    @staticmethod
    def of(tensors: Tensors) -> "Network":
        """Return the network of these tensors."""
        columns = embedded_columns(tensors)
        tables = tuple(tensors[f"embed.{column}"] for column in columns)
        device = tensors["b2"].device
        sizes = torch.tensor([float(len(table)) for table in tables], device=device)
        places = torch.tensor(columns, dtype=torch.int64, device=device)
        return Network(tensors, places, sizes, tables)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds; see `Member`."""
        return self._logit(z, self._embedded(x)) if len(x) else z.new_zeros(0)

    def _embedded(self, x: torch.Tensor) -> torch.Tensor:
        """Return the rows of the categories side by side, shape (m, E)."""
        if not self.tables:
            return x[:, :0]
        found = x[:, self.columns]
        inside = (found >= 0) & (found < self.sizes)  # NaN is not
        rows = torch.where(inside, found, 0.0).to(torch.int64)
        parts = [table[rows[:, i]] for i, table in enumerate(self.tables)]
        return torch.cat(parts, 1)

    def _logit(self, z: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        t = self.tensors
        v = torch.cat([z, embedded], 1) if self.tables else z
        if len(t["b2"]) == 1:
            hidden = torch.addmm(t["b0"][0], v, t["w0"][0].T).relu_()
            hidden = torch.addmm(t["b1"][0], hidden, t["w1"][0].T).relu_()
            return torch.addmv(t["b2"], hidden, t["w2"][0]).addmv_(z, t["linear"][0])
        hidden = torch.baddbmm(t["b0"][:, None], v.expand(len(t["b2"]), -1, -1), t["w0"].mT).relu_()
        hidden = torch.baddbmm(t["b1"][:, None], hidden, t["w1"].mT).relu_()
        out = torch.baddbmm(t["b2"][:, None, None], hidden, t["w2"][:, :, None])[:, :, 0]
        return out.add_(t["linear"] @ z.T).mean(0)
