"""Weights, Vectors → Scores on torch: two banks, fixed buckets, one reference to flip.

The forward formula stands here once; the learner's module must agree with it (the golden batch
in every version is the proof, checked at each load).
"""

import math
import threading
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.scorer import (
    BUCKETS,
    GOLDEN_TOLERANCE,
    NoWeights,
    Scores,
    WeightsRefused,
    bucket_for,
    percentiles_of,
)
from models.weights import MEMBER_ARRAYS, Weights

CLAMP = 8.0


class TorchScorer:
    """The scorer on a CPU core or on one CUDA device."""

    def __init__(self, spec_digest: str, n_features: int, build: str, device: str = "auto") -> None:
        """Take the spec that weights must have been learned with.

        Args:
            spec_digest: Digest that a version must carry.
            n_features: Length of a vector.
            build: Name of our code; torch's version and CPU capability are added.
            device: "cpu", "cuda", or "auto": CUDA where there is one.
        """
        torch.set_num_threads(1)
        torch.set_float32_matmul_precision("highest")
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self._torch_device = torch.device(device)
        self._spec_digest = spec_digest
        self._n_features = n_features
        self._build = f"{build} torch-{torch.__version__}"
        self._device = (
            torch.cuda.get_device_name(self._torch_device)
            if self._torch_device.type == "cuda"
            else f"cpu-{torch.backends.cpu.get_cpu_capability()}"
        )
        self._banks: list[_Bank | None] = [None, None]
        self._active: _Bank | None = None
        self._loading = threading.Lock()

    @property
    def build(self) -> str:
        """Name of code and libraries that a forward pass depends on."""
        return self._build

    @property
    def device(self) -> str:
        """Name of the device, or of the CPU's vector instructions."""
        return self._device

    def snapshot(self) -> "Lease":
        """Return the active version, to be used in a `with` block.

        Raises:
            NoWeights: Nothing was loaded yet.
        """
        bank = self._active
        if bank is None:
            raise NoWeights("no version has been loaded")
        return Lease(bank)

    def load(self, weights: Weights, sha256: str) -> None:
        """Write the idle bank, pass it through the gates, and flip.

        Raises:
            WeightsRefused: A gate failed, or the idle bank still answers; the active one stays.
        """
        with self._loading:
            check_weights(weights, self._spec_digest, self._n_features)
            index = 1 if self._active is self._banks[0] and self._active is not None else 0
            idle = self._banks[index]
            if idle is not None and idle.readers:
                raise WeightsRefused(weights.version, "busy", "the idle bank is still in use")
            if idle is None or not idle.fits(weights):
                idle = _Bank(weights, self._torch_device)
                self._banks[index] = idle
            idle.write(weights, sha256)
            check_golden(weights, idle.score_many(weights.arrays["probe.x"]).logit)
            self._active = idle


class Lease:
    """One hold on a bank; while it lasts the bank is not written."""

    def __init__(self, bank: "_Bank") -> None:
        """Hold the bank from the `with` statement on."""
        self._bank = bank
        self.weights = bank.weights
        self.sha256 = bank.sha256

    def __enter__(self) -> Self:
        """Hold the bank."""
        with self._bank.counting:
            self._bank.readers += 1
        assert self._bank.weights is self.weights, "a lease must be entered where it is taken"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let it go."""
        with self._bank.counting:
            self._bank.readers -= 1

    def score_many(self, X: NDArray[np.float32], bucket: int | None = None) -> Scores:
        """Score vectors, shape (m, n_features); see `scorer.Snapshot`."""
        return self._bank.score_many(X, bucket)

    def explain_many(self, X: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
        """Return contributions, shape (m, n_features); see `scorer.Snapshot`."""
        return self._bank.explain_many(X, steps)


class _Bank:
    """Preallocated tensors of one set of shapes, and the version that they hold."""

    weights: Weights
    sha256: str

    def __init__(self, weights: Weights, device: torch.device) -> None:
        self.readers = 0
        self.counting = threading.Lock()
        self._device = device
        self._tensors = {
            name: torch.zeros(array.shape, dtype=torch.float32, device=device)
            for name, array in weights.arrays.items()
            if _is_parameter(name)
        }
        self._members = weights.members
        n_features = weights.arrays["scaler.mean"].shape[0]
        self._inputs = {  # one per bucket, so that padding never allocates
            size: np.zeros((size, n_features), np.float32) for size in BUCKETS
        }

    def fits(self, weights: Weights) -> bool:
        """Whether the version has the very shapes of this bank."""
        shapes = {n: a.shape for n, a in weights.arrays.items() if _is_parameter(n)}
        return shapes == {name: tuple(tensor.shape) for name, tensor in self._tensors.items()}

    def write(self, weights: Weights, sha256: str) -> None:
        """Copy a version into the tensors. Only while nobody reads."""
        with torch.inference_mode():
            for name, tensor in self._tensors.items():
                tensor.copy_(torch.from_numpy(weights.arrays[name].copy()))
        a, b = (float(value) for value in weights.arrays["calibration"])
        self._slope, self._shift = a, b + math.log(weights.beta)
        self._quantiles = weights.arrays["quantiles"]
        self.weights = weights
        self.sha256 = sha256

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
                out = self._logit(self._scale(x))
                logit[start : start + step] = out.cpu().numpy()[: len(part)]
                buckets[start : start + step] = size
        p = 1.0 / (1.0 + np.exp(-logit.astype(np.float64)))
        return Scores(logit, p, percentiles_of(p, self._quantiles), buckets)

    def explain_many(self, X: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
        """Integrate the gradient along the line from the mean vector, by the midpoint rule."""
        out = np.empty(X.shape, np.float32)
        with torch.inference_mode():
            rows = torch.from_numpy(np.array(X, np.float32)).to(self._device)
            for index, z in enumerate(self._scale(rows)):
                at = (torch.arange(steps, device=self._device) + 0.5) / steps
                slopes = self._gradient(at[:, None] * z[None, :])
                out[index] = (slopes.mean(dim=0) * z).cpu().numpy()
        return out

    def _scale(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.sign(x) * torch.log1p(torch.abs(x))
        z = (z - self._tensors["scaler.mean"]) / self._tensors["scaler.scale"]
        return torch.clamp(torch.nan_to_num(z, nan=0.0), -CLAMP, CLAMP)

    def _logit(self, z: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(z.shape[0], device=z.device)
        for member in range(self._members):
            linear, w0, b0, w1, b1, w2, b2 = self._member(member)
            hidden = torch.relu(torch.addmm(b0, z, w0.T))
            hidden = torch.relu(torch.addmm(b1, hidden, w1.T))
            total = total + (torch.addmm(b2, hidden, w2.T)[:, 0] + torch.mv(z, linear))
        return total / self._members * self._slope + self._shift

    def _gradient(self, z: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(z)
        for member in range(self._members):
            linear, w0, b0, w1, b1, w2, _ = self._member(member)
            first = torch.addmm(b0, z, w0.T)
            second = torch.addmm(b1, torch.relu(first), w1.T)
            back = (second > 0) * w2
            total += ((first > 0) * (back @ w1)) @ w0 + linear
        return total * (self._slope / self._members)

    def _member(self, member: int) -> list[torch.Tensor]:
        return [self._tensors[f"m{member}.{name}"] for name in MEMBER_ARRAYS]


def check_weights(weights: Weights, spec_digest: str, n_features: int) -> None:
    """Pass a version through the gates that need no forward pass.

    Shapes and finite numbers were checked when its bytes were decoded.

    Raises:
        WeightsRefused: It was learned with another spec.
    """
    if weights.schema_digest != spec_digest or weights.n_features != n_features:
        detail = f"learned with spec {weights.schema_digest[:12]}, serving {spec_digest[:12]}"
        raise WeightsRefused(weights.version, "digest", detail)


def check_golden(weights: Weights, logit: NDArray[np.float32]) -> None:
    """Compare our log-odds of the golden batch with the learner's.

    Raises:
        WeightsRefused: They differ by more than `GOLDEN_TOLERANCE` (relative beyond 1).
    """
    theirs = weights.arrays["probe.logit"].astype(np.float64)
    apart = np.abs(logit.astype(np.float64) - theirs) / np.maximum(1.0, np.abs(theirs))
    worst = float(apart.max(initial=0.0))
    if not worst <= GOLDEN_TOLERANCE:
        raise WeightsRefused(weights.version, "golden", f"log-odds differ by {worst:.3g}")


def _is_parameter(name: str) -> bool:
    return name.startswith(("scaler.", "m"))
