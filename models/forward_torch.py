"""members' arrays, vectors → log-odds and what each feature adds to them: the forward pass, once.

Scorer and learners call this and nothing else, on a CPU or on CUDA alike: plain tensor
operations, no gradients kept. The golden batch in every version is the proof that two builds
agree (`models/scorer.py`).

Contributions are additive: they and a baseline, which is the member's own, sum to its log-odds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from models.forward_trees_torch import Trees
from models.weights_kinds import embedded_columns

CLAMP = 8.0
ROWS_AT_ONCE = 512
"""Points of an integration that are computed in one pass."""

Tensors = Mapping[str, torch.Tensor]


class Member(Protocol):
    """One member, ready to answer; its tensors may be written between two calls.

    Attributes:
        baseline: Log-odds that contributions start from.
    """

    @property
    def baseline(self) -> float:
        """Log-odds that contributions start from."""

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds, shape (m,).

        Args:
            x: Vectors as they were scored, float32, shape (m, n); NaN = missing.
            z: The same, `scaled`.
        """

    def contributions(self, x: torch.Tensor, z: torch.Tensor, steps: int) -> torch.Tensor:
        """Return what each feature adds to the baseline, float32, shape (m, n)."""


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


def contributions(
    kind: str, tensors: Tensors, x: torch.Tensor, z: torch.Tensor, steps: int
) -> tuple[torch.Tensor, float]:
    """Return a member's contributions, shape (m, n), and the baseline that they start from."""
    with torch.inference_mode():
        member = prepare(kind, tensors)
        return member.contributions(x, z, steps), member.baseline


@dataclass(frozen=True, slots=True)
class Linear:
    """log-odds = linear·z + bias; a feature adds its term."""

    linear: torch.Tensor
    bias: torch.Tensor

    @property
    def baseline(self) -> float:
        """The bias."""
        return float(self.bias)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds; see `Member`."""
        return torch.mv(z, self.linear).add_(self.bias)

    def contributions(self, x: torch.Tensor, z: torch.Tensor, steps: int) -> torch.Tensor:
        """Return the terms; see `Member`."""
        return z * self.linear


@dataclass(frozen=True, slots=True)
class Network:
    """A stack of k equal networks over z and shared embeddings of categories, averaged.

    A feature adds its integrated gradient from z = 0 and from each table's row 0 (absent), by the
    midpoint rule; what the rule leaves over is shared out in proportion, so that the sum is exact.
    A category's column adds what its embedding does.
    Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017.
    """

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

    @property
    def baseline(self) -> float:
        """Log-odds at z = 0 with every category absent."""
        with torch.inference_mode():
            n = self.tensors["linear"].shape[1]
            z = torch.zeros((1, n), device=self.sizes.device)
            return float(self._logit(z, self._embedded(z)))

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds; see `Member`."""
        return self._logit(z, self._embedded(x)) if len(x) else z.new_zeros(0)

    def contributions(self, x: torch.Tensor, z: torch.Tensor, steps: int) -> torch.Tensor:
        """Return integrated gradients; see `Member`."""
        if not len(x):
            return torch.zeros_like(z)
        with torch.inference_mode():
            size = max(1, ROWS_AT_ONCE // steps)
            cuts = [slice(start, start + size) for start in range(0, len(x), size)]
            return torch.cat([self._integrated(x[cut], z[cut], steps) for cut in cuts])

    def _integrated(self, x: torch.Tensor, z: torch.Tensor, steps: int) -> torch.Tensor:
        """Return contributions of a few rows; all steps of all of them in one pass."""
        n = z.shape[1]
        full = self._embedded(x)
        start = self._embedded(torch.zeros_like(x[:1]))
        way = torch.cat([z, full - start], 1)
        at = (torch.arange(steps, device=z.device) + 0.5) / steps
        points = way * at[:, None, None]
        points[:, :, n:] += start
        slope = self._slope(points.view(steps * len(x), way.shape[1]))
        slope = slope.view(steps, *way.shape).mean(0)
        moved = way * slope
        out = moved[:, :n].clone()
        end = n
        for column, table in zip(self.columns.tolist(), self.tables, strict=True):
            end += table.shape[1]
            out[:, column] += moved[:, end - table.shape[1] : end].sum(1)
        return _completed(out, way[:, :n], self._logit(z, full) - self.baseline)

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

    def _slope(self, v: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the log-odds by z and the embeddings, shape (m, n + E)."""
        t = self.tensors
        k = len(t["b2"])
        first = torch.baddbmm(t["b0"][:, None], v.expand(k, -1, -1), t["w0"].mT)
        second = torch.baddbmm(t["b1"][:, None], first.relu(), t["w1"].mT)
        back = (second > 0) * t["w2"][:, None]
        slope = torch.bmm((first > 0) * torch.bmm(back, t["w1"]), t["w0"]).mean(0)
        slope[:, : t["linear"].shape[1]] += t["linear"].mean(0)
        return slope


def _completed(parts: torch.Tensor, z: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
    """Share out what the parts lack of their total, in proportion to their size."""
    share = parts.abs()
    # all slopes may be 0 at the midpoints of a step that is not: then by the way that was gone
    share = torch.where(share.sum(1, keepdim=True) > 0, share, z.abs())
    whole = share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
    return parts + share / whole * (total - parts.sum(1))[:, None]
