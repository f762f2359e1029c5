"""one version of Weights, held in tensors → Scores and contributions, in batches of fixed sizes.

A version is a sum of members (`models/forward_torch.py`), each with a factor: its share in its
lane, the lane's slope and the lane's share.
"""

import threading
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.forward_torch import Member, prepare, scaled
from models.scorer import BUCKETS, Scores, bucket_for, factors_of, percentiles_of
from models.weights import Array, Arrays, Weights
from models.weights_kinds import arrays_of

PAIR_ROWS = 4
"""Rows that a bucket of 2 is computed with: some matrix libraries take the two rows of a pair by
code of their own each, so that a row's last bits depended on its place (seen: MKL 2024.2 on AVX2).
"""


class Bank:
    """Preallocated tensors of one set of shapes, and the version that they hold.

    A new bank is being written; `open` lets it be read, `begin_writing` closes it again.

    Attributes:
        readers: Leases that hold it; while there are any it is not written.
        content: What may be read: a version, and the SHA-256 of its bytes.
    """

    def __init__(self, weights: Weights, device: torch.device) -> None:
        """Allocate tensors for the shapes of `weights`; nothing is held before `write`."""
        self.readers = 0
        self.content: tuple[Weights, str] | None = None
        self._counting = threading.Lock()
        self._device = device
        self._tensors = {
            name: torch.from_numpy(np.zeros(array.shape, array.dtype)).to(device)
            for name, array in weights.arrays.items()
            if _is_parameter(name)
        }
        self._held: Arrays = {}
        self._kinds: dict[str, str] = {}
        self._ready: dict[str, Member] = {}
        self._inputs = {  # one per bucket, so that padding never allocates
            size: np.zeros((PAIR_ROWS if size == 2 else size, weights.n_features), np.float32)
            for size in BUCKETS
        }

    def fits(self, weights: Weights) -> bool:
        """Whether the version has the very shapes of this bank."""
        found = {n: (a.shape, a.dtype) for n, a in weights.arrays.items() if _is_parameter(n)}
        held = {name: (array.shape, array.dtype) for name, array in self._held.items()}
        return self._kinds == _kinds_of(weights) and found == held

    @property
    def version(self) -> int:
        """Number of the version that may be read; 0: none."""
        return 0 if self.content is None else self.content[0].version

    def hold(self, weights: Weights) -> bool:
        """Keep the bank from being written, if it still holds this version."""
        with self._counting:
            held = self.content is not None and self.content[0] is weights
            self.readers += held
            return held

    def let_go(self) -> None:
        """End a hold."""
        with self._counting:
            self.readers -= 1

    def begin_writing(self) -> bool:
        """Close the bank, if nobody reads it."""
        with self._counting:
            if self.readers:
                return False
            self.content = None
            return True

    def open(self, weights: Weights, sha256: str) -> None:
        """Let the version that was written be read."""
        self.content = weights, sha256

    def write(self, weights: Weights) -> None:
        """Copy a version into the tensors of a closed bank.

        Arrays that the version shares with the one held are there already.
        """
        changed = [
            name for name in self._tensors if weights.arrays[name] is not self._held.get(name)
        ]
        with torch.inference_mode():
            for name in changed:
                _copy(weights.arrays[name], self._tensors[name])
            self._held = {name: weights.arrays[name] for name in self._tensors}
            self._kinds = _kinds_of(weights)
            self._prepare(changed)
        self._shift, factors = factors_of(weights)
        self._terms = [
            (self._ready[prefix], factor) for prefix, factor in factors.items() if factor
        ]
        self._quantiles = weights.arrays["quantiles"]

    def _prepare(self, changed: Sequence[str]) -> None:
        for prefix, kind in self._kinds.items():
            short = arrays_of(prefix, kind, self._held)
            if prefix not in self._ready or any(prefix + name in changed for name in short):
                tensors = {name: self._tensors[prefix + name] for name in short}
                self._ready[prefix] = prepare(kind, tensors)

    @property
    def baseline(self) -> float:
        """Log-odds that contributions start from."""
        return self._shift + sum(factor * member.baseline for member, factor in self._terms)

    def score_many(self, X: NDArray[np.float32], bucket: int | None = None) -> Scores:
        """Score vectors in slices of at most the largest bucket."""
        rows = X.shape[0]
        logit = np.empty(rows, np.float32)
        buckets = np.empty(rows, np.uint16)
        step = bucket or BUCKETS[-1]
        with torch.inference_mode():
            for start in range(0, rows, step):
                part = X[start : start + step]
                size = bucket or bucket_for(len(part))
                padded = self._inputs[size]
                padded[: len(part)] = part
                padded[len(part) :] = 0.0
                x = torch.from_numpy(padded).to(self._device)
                out = self._logit(x, self._scale(x))
                logit[start : start + step] = out.cpu().numpy()[: len(part)]
                buckets[start : start + step] = size
        p = 1.0 / (1.0 + np.exp(-logit.astype(np.float64)))
        return Scores(logit, p, percentiles_of(p, self._quantiles), buckets)

    def explain_many(self, X: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
        """Add up the members' contributions, each by its share."""
        with torch.inference_mode():
            x = torch.from_numpy(np.array(X, np.float32)).to(self._device)
            z = self._scale(x)
            total = torch.zeros_like(x)
            for member, factor in self._terms:
                total.add_(member.contributions(x, z, steps), alpha=factor)
            return np.asarray(total.cpu().numpy())

    def _scale(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x, self._tensors["scaler.mean"], self._tensors["scaler.scale"])

    def _logit(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        total = torch.full((len(x),), self._shift, device=x.device)
        for member, factor in self._terms:
            total.add_(member.forward(x, z), alpha=factor)
        return total


def _is_parameter(name: str) -> bool:
    return not name.startswith("probe.") and name != "quantiles"


def _kinds_of(weights: Weights) -> dict[str, str]:
    return {member.prefix: member.kind for member in weights.members}


def _copy(array: Array, tensor: torch.Tensor) -> None:
    if tensor.is_cuda:
        tensor.copy_(torch.from_numpy(array.copy()))  # a read-only array would be warned of
    else:
        np.copyto(tensor.numpy(), array)
