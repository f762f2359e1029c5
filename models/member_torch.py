"""scaled vectors and labels → one network's better guess: a linear part and two hidden layers.

All parameters lie in one flat vector, so that an Adam step is a handful of operations and not
eight times as many, and a checkpoint is three byte strings.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.learner import PRIOR_RATE
from models.weights import MEMBER_ARRAYS, shapes_of

CLAMP = 8.0
ADAM_DECAY = (0.9, 0.999)
ADAM_EPSILON = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to learn; the defaults were chosen on the first weeks of the Handbook log (see ADR).

    Attributes:
        beta: Share of legit rows that are learned from, in (0, 1].
        new_rows: New rows of a full mini-batch.
        rehearsed_per_row: Rows learned again beside each new one.
        rehearsed_min: Rows learned again beside a mini-batch of few new ones, at least.
        fraud_share: Part of the rehearsed rows that is drawn from the frauds, in [0, 1).
        keep_rows: Newest learned rows that can be rehearsed.
        keep_frauds: Newest learned frauds that can be.
        step_limit: Largest norm of a gradient; beyond it is scaled down.
    """

    seed: int = 1
    beta: float = 1.0
    learning_rate: float = 1e-3
    hidden: tuple[int, int] = (64, 32)
    members: int = 1
    new_rows: int = 64
    rehearsed_per_row: int = 3
    rehearsed_min: int = 64
    fraud_share: float = 0.25
    keep_rows: int = 200_000
    keep_frauds: int = 4_096
    step_limit: float = 5.0
    prior_rate: float = PRIOR_RATE


class Member:
    """One network: parameters in one flat vector, and Adam's two moments.

    Source of the step: Kingma, Ba, Adam: A Method for Stochastic Optimization, ICLR 2015.
    """

    def __init__(self, n: int, recipe: Recipe, index: int) -> None:
        """Draw the hidden layers; the last one starts silent, so the first logit is the prior.

        Args:
            n: Number of features.
            recipe: How to learn.
            index: Which member of the ensemble it is: it draws other starting values.
        """
        shapes = shapes_of(n, 1, recipe.hidden, 0)
        self._shapes = {name: shapes[f"m0.{name}"] for name in MEMBER_ARRAYS}
        self._recipe = recipe
        draws = np.random.Generator(
            np.random.Philox(key=np.array([recipe.seed, 2**63 + index], np.uint64))
        )
        logit = math.log(recipe.prior_rate / (1.0 - recipe.prior_rate)) - math.log(recipe.beta)
        parts: list[NDArray[np.float64]] = []
        for name, shape in self._shapes.items():
            if name in {"w0", "w1"}:  # the last layer and the linear part start silent: the prior
                limit = 1.0 / math.sqrt(shape[1])
                parts.append(draws.uniform(-limit, limit, shape).ravel())
            else:
                parts.append(np.full(math.prod(shape), logit if name == "b2" else 0.0))
        self.flat = torch.from_numpy(np.concatenate(parts).astype(np.float32)).requires_grad_()
        self.first = torch.zeros_like(self.flat.detach())
        self.second = torch.zeros_like(self.flat.detach())
        self._steps = 0

    def learn(self, z: torch.Tensor, y: torch.Tensor, w: torch.Tensor) -> None:
        """Take one step down the weighted log loss of rows z, shape (m, n); y and w, shape (m,)."""
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            self.logit(z), y, weight=w, reduction="sum"
        ) / len(y)
        (slope,) = torch.autograd.grad(loss, self.flat)
        self._steps += 1
        with torch.no_grad():
            norm = float(slope.norm())
            slope.mul_(min(1.0, self._recipe.step_limit / max(norm, 1e-12)))
            self.first.lerp_(slope, 1.0 - ADAM_DECAY[0])
            self.second.mul_(ADAM_DECAY[1]).addcmul_(slope, slope, value=1.0 - ADAM_DECAY[1])
            rate = self._recipe.learning_rate / (1.0 - ADAM_DECAY[0] ** self._steps)
            root = (self.second / (1.0 - ADAM_DECAY[1] ** self._steps)).sqrt_().add_(ADAM_EPSILON)
            self.flat.addcdiv_(self.first, root, value=-rate)

    def logit(self, z: torch.Tensor) -> torch.Tensor:
        """Return log-odds among the thinned rows, shape (m,); gradients flow."""
        linear, w0, b0, w1, b1, w2, b2 = self._views()
        hidden = torch.relu(torch.addmm(b0, z, w0.T))
        hidden = torch.relu(torch.addmm(b1, hidden, w1.T))
        return torch.addmm(b2, hidden, w2.T)[:, 0] + torch.mv(z, linear)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of the parameters by the names of `weights.MEMBER_ARRAYS`."""
        with torch.no_grad():
            views = self._views()
        return {
            name: view.detach().numpy().copy()
            for name, view in zip(MEMBER_ARRAYS, views, strict=True)
        }

    def restore(self, flat: bytes, first: bytes, second: bytes, steps: int) -> None:
        """Take parameters, both moments and the number of steps taken back."""
        self._steps = steps
        with torch.no_grad():
            for tensor, body in ((self.flat, flat), (self.first, first), (self.second, second)):
                tensor.copy_(torch.from_numpy(np.frombuffer(body, np.float32).copy()))

    def _views(self) -> list[torch.Tensor]:
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        parts = torch.split(self.flat, sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes.values(), strict=True)]


def scaled(X: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Return vectors on the scale that networks see: signed logarithm, standardised, clamped."""
    z = (torch.sign(X) * torch.log1p(torch.abs(X)) - mean) / scale
    return torch.clamp(torch.nan_to_num(z, nan=0.0), -CLAMP, CLAMP)
