"""scaled vectors and labels → better guesses: a stack of k networks that learn side by side.

Every network is a wide linear part beside two hidden layers; they see the same rows and begin with
other values. All their parameters lie in one flat vector, array by array with the networks
stacked, so that a step is a handful of batched products and a checkpoint is three byte strings.
The slope is written out by hand: at 64 rows a tape costs more than the products.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from models.learner import PRIOR_RATE
from models.recipe import Recipe

ARRAYS = ("linear", "w0", "b0", "w1", "b1", "w2", "b2")
ADAM_DECAY = (0.9, 0.999)
EPSILON = 1e-8
RECENT = 8.0
"""While few steps were taken, averages hold the newest ninth of them (Shamir, Zhang, Stochastic
Gradient Descent for Non-smooth Optimization, ICML 2013: averages of polynomial decay)."""


class Stack:
    """k networks, their optimizer's memory, and where asked their running averages.

    Sources of the steps: Kingma, Ba, Adam, ICLR 2015; Duchi, Hazan, Singer, Adaptive Subgradient
    Methods, JMLR 2011 (per-coordinate AdaGrad); Polyak, Juditsky, Acceleration of Stochastic
    Approximation by Averaging, 1992, here with exponential weights.
    """

    def __init__(self, n: int, embedded: int, recipe: Recipe, seed: int) -> None:
        """Draw the hidden layers; the last one starts silent, so the first logit is the prior.

        Args:
            n: Number of features.
            embedded: Numbers beside them that come from embeddings.
            recipe: How to learn.
            seed: With the recipe it decides the first values.
        """
        k, h0, h1 = recipe.networks, recipe.hidden_0, recipe.hidden_1
        self._shapes = {
            "linear": (k, n),
            "w0": (k, h0, n + embedded),
            "b0": (k, h0),
            "w1": (k, h1, h0),
            "b1": (k, h1),
            "w2": (k, h1),
            "b2": (k,),
        }
        self._n, self._k, self._recipe = n, k, recipe
        self.flat = torch.from_numpy(self._drawn(seed))
        self.first = torch.zeros_like(self.flat)
        self.second = torch.zeros_like(self.flat)
        self.averaged = self.flat.clone() if recipe.averaging else self.flat
        self._slope = torch.zeros_like(self.flat)
        self._root = torch.zeros_like(self.flat)
        self._at = self._views(self.flat)
        self._slopes = self._views(self._slope)
        self.steps = 0

    @property
    def memory_bytes(self) -> int:
        """Bytes of parameters, moments, averages and room for a step."""
        return 6 * self.flat.numel() * self.flat.element_size()

    def learn(
        self, x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, rate: float, pace: float = 1.0
    ) -> torch.Tensor:
        """Take one step down the mean weighted log loss of each network.

        Args:
            x: Scaled features and embeddings, shape (n + embedded, m).
            y: Labels as 0.0 and 1.0, shape (m,).
            w: Weight of each row over the number of rows, shape (m,); negative: away from it.
            rate: Learning rate of this step, at the usual pace.
            pace: Factor of the rate; averages reach back so many times less.

        Returns:
            Slope of the loss by the embeddings, shape (embedded, m).
        """
        linear, w0, b0, w1, b1, w2, b2 = self._at
        s_linear, s_w0, s_b0, s_w1, s_b1, s_w2, s_b2 = self._slopes
        k, h0, h1 = w1.shape[0], w0.shape[1], w1.shape[1]
        m, z = x.shape[1], x[: self._n]
        flat_w0 = w0.view(k * h0, -1)
        first = torch.addmm(b0.view(-1, 1), flat_w0, x).relu_().view(k, h0, m)
        second = torch.baddbmm(b1.view(k, h1, 1), w1, first).relu_()
        logit = torch.addmm(b2.view(k, 1), linear, z)
        logit += torch.bmm(w2.view(k, 1, h1), second)[:, 0]
        pull = logit.sigmoid_().sub_(y).mul_(w)
        torch.mm(pull, z.T, out=s_linear)
        torch.sum(pull, 1, out=s_b2)
        torch.bmm(second, pull.view(k, m, 1), out=s_w2.view(k, h1, 1))
        back = torch.bmm(w2.view(k, h1, 1), pull.view(k, 1, m)).mul_(second > 0)
        torch.sum(back, 2, out=s_b1)
        torch.bmm(back, first.transpose(1, 2), out=s_w1)
        deep = torch.bmm(w1.transpose(1, 2), back).mul_(first > 0).view(k * h0, m)
        torch.sum(deep, 1, out=s_b0.view(-1))
        torch.mm(deep, x.T, out=s_w0.view(k * h0, -1))
        of_embedded = flat_w0[:, self._n :].T @ deep
        self._step(rate * pace, pace)
        return of_embedded

    def logit(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean log-odds of the networks as they are published, shape (m,).

        `x` has shape (n + embedded, m).
        """
        linear, w0, b0, w1, b1, w2, b2 = self._views(self.averaged)
        k, h1, h0 = w1.shape
        first = torch.addmm(b0.view(-1, 1), w0.view(k * h0, -1), x).relu_()
        second = torch.baddbmm(b1.view(k, h1, 1), w1, first.view(k, h0, -1)).relu_()
        logit = torch.addmm(b2.view(k, 1), linear, x[: self._n])
        logit += torch.bmm(w2.view(k, 1, h1), second)[:, 0]
        return logit.mean(0)

    def follow(self, before: torch.Tensor, steps: float) -> None:
        """Move averages as parameters moved from `before`, by the share they hold of a change.

        `steps` is how long ago what is being undone was learned.
        """
        if self._recipe.averaging:
            share = 1.0 - math.exp(-steps / self._recipe.averaging)
            self.averaged.add_(self.flat - before, alpha=share)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Return copies of the published parameters, by the names of `ARRAYS`."""
        views = self._views(self.averaged)
        return {name: view.numpy().copy() for name, view in zip(ARRAYS, views, strict=True)}

    def state(self) -> list[bytes]:
        """Return parameters, moments and averages (empty where they are the parameters)."""
        held = [self.flat, self.first, self.second]
        if self._recipe.averaging:
            held.append(self.averaged)
        return [tensor.numpy().tobytes() for tensor in held]

    def restore(self, state: list[bytes], steps: int) -> None:
        """Take back what `state` gave, after so many steps."""
        held = [self.flat, self.first, self.second, self.averaged]
        for tensor, body in zip(held, state, strict=False):
            tensor.copy_(torch.from_numpy(np.frombuffer(body, np.float32).copy()))
        self.steps = steps

    def _step(self, rate: float, pace: float) -> None:
        recipe, slope = self._recipe, self._slope
        self.steps += 1
        norm = float(slope.norm()) / math.sqrt(self._k)
        if norm > recipe.slope_max:
            slope.mul_(recipe.slope_max / norm)
        if recipe.optimizer == "adagrad":
            self.second.addcmul_(slope, slope)
            torch.sqrt(self.second, out=self._root).add_(EPSILON)
            self.flat.addcdiv_(slope, self._root, value=-rate)
        else:
            self.first.lerp_(slope, 1.0 - ADAM_DECAY[0])
            self.second.mul_(ADAM_DECAY[1]).addcmul_(slope, slope, value=1.0 - ADAM_DECAY[1])
            seen = 1.0 - ADAM_DECAY[1] ** self.steps
            torch.sqrt(self.second, out=self._root).add_(EPSILON * math.sqrt(seen))
            size = rate * math.sqrt(seen) / (1.0 - ADAM_DECAY[0] ** self.steps)
            self.flat.addcdiv_(self.first, self._root, value=-size)
        if recipe.weight_decay:
            self.flat.mul_(1.0 - rate * recipe.weight_decay)
        if recipe.averaging:  # shorter at first, so that the first values are soon forgotten
            recent = (1.0 + RECENT) / (1.0 + RECENT + self.steps)
            newest = max(min(1.0, pace / recipe.averaging), recent)
            self.averaged.lerp_(self.flat, newest)

    def _drawn(self, seed: int) -> NDArray[np.float32]:
        draws = np.random.Generator(np.random.Philox(key=np.array([seed, 2**63], np.uint64)))
        logit = math.log(PRIOR_RATE / (1.0 - PRIOR_RATE)) - math.log(self._recipe.beta)
        parts: list[NDArray[np.float64]] = []
        for name, shape in self._shapes.items():
            if name in {"w0", "w1"}:
                limit = 1.0 / math.sqrt(shape[2])
                parts.append(draws.uniform(-limit, limit, shape).ravel())
            else:  # the last layer and the linear part start silent
                parts.append(np.full(math.prod(shape), logit if name == "b2" else 0.0))
        return np.concatenate(parts).astype(np.float32)

    def _views(self, flat: torch.Tensor) -> list[torch.Tensor]:
        sizes = [math.prod(shape) for shape in self._shapes.values()]
        parts = torch.split(flat, sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes.values(), strict=True)]
