"""a network with its two wide layers in bfloat16; all else, the last sum included, in float32."""

from dataclasses import dataclass

import torch

from models.forward_torch import Network

HALF_TOLERANCE = 0.03
"""Largest difference in log-odds from float32, relative beyond 1: bfloat16 keeps 8 bits, and each
layer rounds its inputs, weights and sums to them."""


@dataclass(frozen=True, slots=True)
class HalfNetwork:
    """`forward_torch.Network`, its hidden layers rounded."""

    network: Network
    w0: torch.Tensor
    b0: torch.Tensor
    w1: torch.Tensor
    b1: torch.Tensor

    @staticmethod
    def of(network: Network) -> "HalfNetwork":
        """Round the wide layers; the copies are the member's own."""
        w0, b0, w1, b1 = (
            network.tensors[name].to(torch.bfloat16) for name in ("w0", "b0", "w1", "b1")
        )
        return HalfNetwork(network, w0, b0, w1, b1)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds; see `forward_torch.Member`."""
        if not len(x):
            return z.new_zeros(0)
        t = self.network.tensors
        v = torch.cat([z, self.network._embedded(x)], 1) if self.network.tables else z
        half = v.to(torch.bfloat16).expand(len(t["b2"]), -1, -1)
        hidden = torch.baddbmm(self.b0[:, None], half, self.w0.mT).relu_()
        hidden = torch.baddbmm(self.b1[:, None], hidden, self.w1.mT).relu_().float()
        out = torch.baddbmm(t["b2"][:, None, None], hidden, t["w2"][:, :, None])[:, :, 0]
        return out.add_(t["linear"] @ z.T).mean(0)
