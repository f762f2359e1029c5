"""Weights, Vectors → Scores on torch: two banks, and one reference to flip.

The golden batch in every version is the proof that learner and scorer mean the same by it, checked
at each load.
"""

import threading
from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.bank_torch import Bank
from models.scorer import GOLDEN_TOLERANCE, NoWeights, Scores, WeightsRefused
from models.weights import Weights


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
        self._banks: list[Bank | None] = [None, None]
        self._active: Bank | None = None
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
                idle = Bank(weights, self._torch_device)
                self._banks[index] = idle
            idle.write(weights, sha256)
            check_golden(weights, idle.score_many(weights.arrays["probe.x"]).logit)
            self._active = idle


class Lease:
    """One hold on a bank; while it lasts the bank is not written."""

    def __init__(self, bank: Bank) -> None:
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

    @property
    def baseline(self) -> float:
        """Log-odds that contributions start from; see `scorer.Snapshot`."""
        return self._bank.baseline

    def score_many(self, X: NDArray[np.float32], bucket: int | None = None) -> Scores:
        """Score vectors, shape (m, n_features); see `scorer.Snapshot`."""
        return self._bank.score_many(X, bucket)

    def explain_many(self, X: NDArray[np.float32], steps: int) -> NDArray[np.float32]:
        """Return contributions, shape (m, n_features); see `scorer.Snapshot`."""
        return self._bank.explain_many(X, steps)


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
