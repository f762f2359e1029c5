"""Weights, Vectors → Scores: the versions in use, and the port that answers with them.

A scorer has slots. `ACTIVE` answers; a rollout gives its canary and its shadow slots of their own
names, and the same event may be scored in several. Each slot holds its version and the one before,
so going back is one reference. Versions, not slots, own memory: what one slot holds, another may
take over by `recall` without a copy.
"""

import math
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # passes need torch, numpy and numba alone: they are tried on bare GPU machines
    from models.weights import Weights

BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Batch sizes that a forward pass runs at; a batch is padded up to the next one, so that a row's
score depends on the row, the weights and the bucket, and on nothing that waited with it."""

BULK = 4096
"""A batch size for those who ask for it by name: audits, backtests."""

ACTIVE = "active"
"""The slot that answers."""

GATES = ("signature", "content", "stale", "digest", "golden", "step", "scores", "alerts", "busy")
"""What may turn a version away, in the order in which it is asked."""

SLOTS_MAX = 4
"""Slots that may hold a version at once: the active one, a canary, a shadow, and one to spare."""

GOLDEN_TOLERANCE = 1e-5
"""Largest difference in log-odds between the learner's golden batch and the scorer's."""


class NoWeights(LookupError):
    """No version has been loaded yet; the answer is the policy's fallback."""


class NoDevice(ValueError):
    """The device that was asked for is not there."""


class WeightsRefused(ValueError):
    """A gate turned a version away; the active one stays.

    Attributes:
        version: The number of the refused version.
        gate: Closed set, fit for a metric label: `GATES`.
    """

    def __init__(self, version: int, gate: str, detail: str) -> None:
        """Name the version, the gate and the sentence."""
        super().__init__(f"version {version} refused at gate {gate}: {detail}")
        self.version = version
        self.gate = gate


class Scores(NamedTuple):
    """What one forward pass says about m vectors.

    Attributes:
        logit: float32, shape (m,); corrected for undersampling and calibrated.
        p: float64, shape (m,); probability of fraud.
        percentile: float64, shape (m,), in [0, 1]; NaN when the weights carry no quantiles.
        bucket: uint16, shape (m,): the batch size that each row was computed at.
    """

    logit: NDArray[np.float32]
    p: NDArray[np.float64]
    percentile: NDArray[np.float64]
    bucket: NDArray[np.uint16]


class Snapshot(Protocol):
    """One version of the weights, held still while it answers. Use it in a `with` block.

    Attributes:
        weights: What is loaded; its arrays are not to be edited.
        sha256: SHA-256 (hex) of the signed bytes that it came in.
    """

    @property
    def weights(self) -> "Weights":
        """What is loaded."""

    @property
    def sha256(self) -> str:
        """SHA-256 (hex) of the signed bytes."""

    @property
    def baseline(self) -> float:
        """Log-odds that contributions start from; the same for every row."""

    def score_many(self, X: NDArray[np.float32], bucket: int | None = None) -> Scores:
        """Score m vectors, shape (m, n_features), NaN = missing.

        Args:
            X: The vectors; m may exceed the largest bucket.
            bucket: Compute at this batch size instead of the smallest that fits: with the one
                that a decision names, its log-odds come out bit for bit (same build and device).
        """

    def explain_many(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return signed contributions to the log-odds, shape (m, n_features).

        With `baseline` they sum to the row's log-odds, but for float32 rounding; how they are made
        is said in `models.walk`. A row's do not depend on what is explained with it.
        """

    def __enter__(self) -> Self:
        """Hold the weights."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let them go."""


class Scorer(Protocol):
    """Several versions at once, each held still while it answers.

    Loading never waits for an answer, nor an answer for loading: a version is written where nobody
    reads. Every method may be called from any thread; loads follow each other.
    Implementation: `scorer_local.LocalScorer`.
    """

    @property
    def build(self) -> str:
        """Name of code and libraries that a forward pass depends on."""

    @property
    def device(self) -> str:
        """Name of the device that it runs on."""

    def snapshot(self, slot: str = ACTIVE) -> Snapshot:
        """Return the slot's version; every row that it scores is that version's.

        Raises:
            NoWeights: The slot holds none.
        """

    def load(
        self, weights: "Weights", sha256: str, slot: str = ACTIVE, *, willed: bool = False
    ) -> None:
        """Write a version beside those in use, pass it through the gates, and flip one reference.

        How far a version lies from the active one is asked for the active slot alone: a canary is
        there to be different.

        Args:
            weights: Verified and decoded.
            sha256: SHA-256 (hex) of the bytes that it came in.
            slot: Where it is to answer; the slot's version becomes its previous one.
            willed: Somebody asked for this very version, and it is written down who: it may lie
                as far from the active one as it likes.

        Raises:
            WeightsRefused: A gate failed; every slot is as it was.
        """

    def recall(self, version: int, slot: str = ACTIVE) -> bool:
        """Let a slot answer with a version that some slot still holds; False: none does.

        What is held passed the gates when it was loaded. Nothing is read, copied or computed.
        """

    def clear(self, slot: str) -> None:
        """Let a slot hold nothing; without effect if it does. Not for `ACTIVE`."""

    def versions(self) -> Mapping[str, int]:
        """Return slot → version of the slots that hold one."""


def bucket_for(rows: int) -> int:
    """Return the smallest bucket that holds `rows` (at most the largest)."""
    return next((size for size in BUCKETS if size >= rows), BUCKETS[-1])


def percentiles_of(p: NDArray[np.float64], quantiles: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the share of recent scores below each p, shape (m,), in [0, 1].

    Args:
        p: Probabilities, shape (m,).
        quantiles: Ascending, shape (q,): the 0th to the 100th percentile of recent scores in
            q - 1 equal steps. Fewer than two: NaN.
    """
    if quantiles.size < 2:
        return np.full(p.shape, np.nan)
    below = np.searchsorted(np.asarray(quantiles, np.float64), p, side="left")
    return np.minimum(below / (quantiles.size - 1), 1.0)


def baseline_of(weights: "Weights") -> NDArray[np.float64]:
    """Return the mean vector in the features' own units, shape (n_features,).

    The scaler's mean lives on the signed logarithmic scale; this maps it back, so it is the
    geometric kind of mean: what is usual, not what is average.
    """
    mean = weights.arrays["scaler.mean"].astype(np.float64)
    return np.sign(mean) * np.expm1(np.abs(mean))


def factors_of(weights: "Weights") -> tuple[float, dict[str, float]]:
    """Return the shift, and by each member's prefix its factor, whose sum is the log-odds.

    logit = shift + Σ factor·forward; β and the lanes' calibration are in both.
    """
    shift = 0.0
    factors = {}
    for lane in weights.lanes:
        shift += lane.weight * lane.b
        for member in weights.members:
            if member.lane == lane.name:
                factor = lane.weight * lane.a * member.weight
                factors[member.prefix] = factor
                shift += factor * math.log(member.beta)
    return shift, factors
