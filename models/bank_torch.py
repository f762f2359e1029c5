"""one version of Weights, held in tensors → Scores, in batches of fixed sizes.

A version is a sum of members (`models/forward_torch.py`), each with a factor: its share in its
lane, the lane's slope and the lane's share. Factors lie in tensors, like all that changes from
version to version: a pass that was recorded for one version answers for the next.
"""

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from models.bank import Bank
from models.engine_torch import Engine
from models.forward_half_torch import HalfNetwork
from models.forward_torch import Member, Network, prepare, scaled
from models.passes_torch import Passes
from models.renew_torch import renew
from models.scorer import factors_of
from models.weights_kinds import Array, Arrays, arrays_of

if TYPE_CHECKING:
    from models.weights import Weights

STAGED_MAX_BYTES = 64 * 1024 * 1024
"""Arrays up to this size have pinned memory of their own, from which they are copied."""


class TorchBank(Bank):
    """Preallocated tensors of one set of shapes, and the version that they hold."""

    def __init__(self, weights: "Weights", engine: Engine, *, half: bool = False) -> None:
        """Allocate tensors for the shapes of `weights`; nothing is held before `write`.

        Args:
            weights: A version of these shapes.
            engine: Where passes run.
            half: Whether networks compute in bfloat16 (`models/forward_half_torch.py`).
        """
        super().__init__()
        self._passing = threading.Lock()
        self._engine = engine
        self._half = half
        self._tensors = {
            name: torch.from_numpy(np.zeros(array.shape, array.dtype)).to(engine.device)
            for name, array in weights.arrays.items()
            if _is_parameter(name)
        }
        self._staged: dict[str, torch.Tensor] = {}
        self._held: Arrays = {}
        self._kinds: dict[str, str] = {}
        self._ready: dict[str, Member] = {}
        self._terms: list[tuple[str, int]] = []
        self._factors = torch.zeros(1 + len(weights.members), device=engine.device)
        self._passes = Passes(engine, weights.n_features, self._answer)

    def fits(self, weights: "Weights") -> bool:
        """Whether the version has the very shapes of this bank."""
        found = {n: (a.shape, a.dtype) for n, a in weights.arrays.items() if _is_parameter(n)}
        held = {name: (array.shape, array.dtype) for name, array in self._held.items()}
        return self._kinds == _kinds_of(weights) and found == held

    def _take(self, weights: "Weights") -> None:
        """Copy a version into the tensors.

        Arrays that the version shares with the one held are there already.
        """
        changed = [
            name for name in self._tensors if weights.arrays[name] is not self._held.get(name)
        ]
        with torch.inference_mode():
            for name in changed:
                self._copy(name, weights.arrays[name])
            self._held = {name: weights.arrays[name] for name in self._tensors}
            self._kinds = _kinds_of(weights)
            same = self._prepare(changed)
            if not (self._weigh(weights) and same):
                self._passes.forget()
            self._passes.record()

    def _logit_of_bucket(self, X: NDArray[np.float32], bucket: int) -> NDArray[np.float32]:
        with self._passing, torch.inference_mode():
            return self._passes.run(X, bucket)[: len(X)].copy()

    def logit_apart(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return log-odds, shape (m,), while others may be scoring; in no bucket."""
        with torch.inference_mode():
            return np.asarray(self.answer(self._given(X)).double().cpu().numpy())

    def answer(self, x: torch.Tensor) -> torch.Tensor:
        """Return log-odds, shape (m,), of vectors on the device, where they stay."""
        with torch.inference_mode():
            out = torch.zeros(len(x), device=self._engine.device)
            if len(x):
                self._answer(x, out)
            return out

    def _answer(self, x: torch.Tensor, out: torch.Tensor) -> None:
        z = self._scale(x)
        out.copy_(self._factors[0])
        for prefix, place in self._terms:
            out.addcmul_(self._ready[prefix].forward(x, z), self._factors[place])

    def _scale(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x, self._tensors["scaler.mean"], self._tensors["scaler.scale"])

    def _given(self, X: NDArray[np.float32]) -> torch.Tensor:
        return torch.from_numpy(np.array(X, np.float32)).to(self._engine.device)

    def _prepare(self, changed: Sequence[str]) -> bool:
        """Prepare members whose arrays changed; return whether recorded passes still hold."""
        same = True
        for prefix, kind in self._kinds.items():
            short = arrays_of(prefix, kind, self._held)
            if prefix in self._ready and not any(prefix + name in changed for name in short):
                continue
            fresh: Member = prepare(kind, {name: self._tensors[prefix + name] for name in short})
            if self._half and isinstance(fresh, Network):
                fresh = HalfNetwork.of(fresh)
            old = self._ready.get(prefix)
            if not (self._engine.captures and old is not None and renew(old, fresh)):
                self._ready[prefix] = fresh
                same = False
        return same

    def _weigh(self, weights: "Weights") -> bool:
        """Write the shift and the factors; return whether the same members count as before."""
        shift, factors = factors_of(weights)
        places = enumerate(factors.items(), start=1)
        terms = [(prefix, place) for place, (prefix, factor) in places if factor]
        found = torch.tensor([shift, *factors.values()], dtype=torch.float32)
        self._factors[: len(found)].copy_(found)
        same, self._terms = terms == self._terms, terms
        return same

    def _copy(self, name: str, array: Array) -> None:
        tensor = self._tensors[name]
        if not self._engine.captures:
            np.copyto(tensor.numpy(), array)
        elif array.nbytes > STAGED_MAX_BYTES:
            tensor.copy_(torch.from_numpy(array.copy()))  # a read-only array would be warned of
        else:
            if name not in self._staged:
                self._staged[name] = self._engine.host(tensor)
            np.copyto(self._staged[name].numpy(), array)
            tensor.copy_(self._staged[name], non_blocking=True)


def _is_parameter(name: str) -> bool:
    return not name.startswith("probe.") and name != "quantiles"


def _kinds_of(weights: "Weights") -> dict[str, str]:
    return {member.prefix: member.kind for member in weights.members}
