"""Weights, Vectors → Scores on torch: versions in banks, and one reference to flip.

The golden batch in every version is the proof that learner and scorer mean the same by it, checked
at each load.
"""

from types import TracebackType
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from models.scorer import ACTIVE, GOLDEN_TOLERANCE, Scores, WeightsRefused
from models.slots_torch import Slots
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
        self._slots = Slots(self._torch_device)

    @property
    def build(self) -> str:
        """Name of code and libraries that a forward pass depends on."""
        return self._build

    @property
    def device(self) -> str:
        """Name of the device, or of the CPU's vector instructions."""
        return self._device

    def snapshot(self, slot: str = ACTIVE) -> "Lease":
        """Return the slot's version, to be used in a `with` block.

        Raises:
            NoWeights: The slot holds none.
        """
        return Lease(self._slots, slot)

    def load(self, weights: Weights, sha256: str, slot: str = ACTIVE) -> None:
        """Write a bank that nobody reads, pass it through the gates, and flip.

        Raises:
            WeightsRefused: A gate failed; every slot is as it was.
        """
        with self._slots.changing:
            check_weights(weights, self._spec_digest, self._n_features)
            torch.set_num_threads(1)  # of this thread: the sums of several come out otherwise
            bank = self._slots.idle_for(weights, slot)
            bank.write(weights)
            check_golden(weights, bank.score_many(weights.arrays["probe.x"]).logit)
            bank.open(weights, sha256)
            self._slots.show(slot, bank)

    def recall(self, version: int, slot: str = ACTIVE) -> bool:
        """Flip to a version that a bank still holds; False: none does."""
        with self._slots.changing:
            bank = self._slots.find(version)
            if bank is None:
                return False
            self._slots.show(slot, bank)
            return True

    def clear(self, slot: str) -> None:
        """Let a slot hold nothing."""
        with self._slots.changing:
            self._slots.clear(slot)

    def versions(self) -> dict[str, int]:
        """Return slot → version of the slots that hold one."""
        return self._slots.versions()


class Lease:
    """One hold on a bank; while it lasts the bank is not written."""

    def __init__(self, slots: Slots, slot: str) -> None:
        """Name what the slot answers with; it is held from the `with` statement on."""
        self._slots = slots
        self._slot = slot
        self._name()

    def _name(self) -> None:
        while True:
            self._bank = self._slots.current(self._slot)
            content = self._bank.content
            if content is not None:  # else it was gone from the slot, and is being written
                self.weights, self.sha256 = content
                return

    def __enter__(self) -> Self:
        """Hold the bank; where it was written since, what the slot answers with by now."""
        while not self._bank.hold(self.weights):
            self._name()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let it go."""
        self._bank.let_go()

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
