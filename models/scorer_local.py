"""Weights, Vectors → Scores in this process: versions in banks, and one reference to flip.

The golden batch in every version is the proof that learner and scorer mean the same by it, checked
at each load.
"""

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.bank import Bank
from models.gates import (
    GateBounds,
    check_claim,
    check_golden,
    check_scores,
    check_step,
    check_weights,
)
from models.recent import Recent
from models.scorer import ACTIVE, NoWeights, Scores, WeightsRefused
from models.site import site_for
from models.slots import Slots
from models.weights import Weights


class LocalScorer:
    """The scorer on a processor's core or on one CUDA device."""

    def __init__(
        self,
        spec_digest: str,
        n_features: int,
        build: str,
        device: str = "auto",
        bounds: GateBounds | None = None,
        *,
        half: bool = False,
    ) -> None:
        """Take the spec that weights must have been learned with.

        Args:
            spec_digest: Digest that a version must carry.
            n_features: Length of a vector.
            build: Name of our code; those of the libraries that a pass depends on are added.
            device: "cpu", "cuda", or "auto": CUDA where there is one.
            bounds: How far a version may lie from the active one.
            half: Whether networks compute in bfloat16, within `HALF_TOLERANCE` of float32.

        Raises:
            NoDevice: The device is not there.
        """
        self._site = site_for(device, half=half)
        self._spec_digest = spec_digest
        self._n_features = n_features
        self._build = f"{build} {self._site.libraries}"
        self._bounds = bounds or GateBounds()
        self._slots = Slots(self._site.make)
        self._recent = Recent(n_features)
        self._refused = False  # one since the active version became so: nothing is owed to more

    @property
    def build(self) -> str:
        """Name of code and libraries that a forward pass depends on."""
        return self._build

    @property
    def device(self) -> str:
        """Name of the device, or of the kind of processor."""
        return self._site.device

    def snapshot(self, slot: str = ACTIVE) -> "Lease":
        """Return the slot's version, to be used in a `with` block.

        Raises:
            NoWeights: The slot holds none.
        """
        return Lease(self._slots, slot, self._recent)

    def load(
        self, weights: Weights, sha256: str, slot: str = ACTIVE, *, willed: bool = False
    ) -> None:
        """Write a bank that nobody reads, pass it through the gates, and flip.

        Raises:
            WeightsRefused: A gate failed; every slot is as it was.
        """
        with self._slots.changing:
            check_weights(weights, self._spec_digest, self._n_features)
            bank = self._slots.idle_for(weights, slot)
            with self._site.staging():
                bank.write(weights)
                probe = weights.arrays["probe.x"]
                logit = bank.score_many(probe).logit.astype(np.float64)
                check_golden(weights, logit, self._site.tolerance)
                if slot == ACTIVE and not willed:
                    self._compare(weights, bank, logit)
            bank.open(weights, sha256)
            self._show(slot, bank)

    def _compare(self, weights: Weights, bank: Bank, logit: NDArray[np.float64]) -> None:
        """Pass a version through the gates that ask how far it lies from the active one."""
        try:
            active = self._slots.current(ACTIVE)
        except NoWeights:
            return
        assert active.content is not None, "a bank in a slot is open"
        before, sha256 = active.content
        probed = active.logit_apart(weights.arrays["probe.x"])
        # versions that were never offered may have moved, too; after a refusal none is believed
        steps = 1 if self._refused else max(1, abs(weights.version - before.version))
        try:
            if weights.parent_sha256 == sha256:
                check_claim(weights, probed, logit)
            if before.labels_learned >= self._bounds.free_labels:
                check_step(weights, probed, logit, self._bounds, steps)
                X = self._recent.rows()
                was, would = active.logit_apart(X), bank.logit_apart(X)
                check_scores(weights, was, would, self._bounds, steps)
        except WeightsRefused:
            self._refused = True
            raise

    def _show(self, slot: str, bank: Bank) -> None:
        self._slots.show(slot, bank)
        if slot == ACTIVE:
            self._refused = False

    def recall(self, version: int, slot: str = ACTIVE) -> bool:
        """Flip to a version that a bank still holds; False: none does."""
        with self._slots.changing:
            bank = self._slots.find(version)
            if bank is None:
                return False
            self._show(slot, bank)
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

    def __init__(self, slots: Slots, slot: str, recent: Recent) -> None:
        """Name what the slot answers with; it is held from the `with` statement on."""
        self._slots = slots
        self._recent = recent
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
        return self._bank.walk.baseline

    def score_many(self, X: NDArray[np.float32], bucket: int | None = None) -> Scores:
        """Score vectors, shape (m, n_features); see `scorer.Snapshot`."""
        if self._slot == ACTIVE and bucket is None:
            self._recent.observe(X)
        return self._bank.score_many(X, bucket)

    def explain_many(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return contributions, shape (m, n_features); see `scorer.Snapshot`."""
        return self._bank.walk.explain_many(X)
