"""the version before, the learner's newest → the version to publish: no step is longer than agreed.

The learner goes where its labels lead. What is published follows it on the straight way from the
version before (`models/blend.py`), as far as the answers to the probe may move at once; the next
versions catch up. Limits hold on the probe's rows, which are real decided vectors, and nowhere
else.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.blend import Arrays, Blend, Leg
from models.weights import Array, Step, Weights

GRID = 16
"""Points of the way that are tried before the last one that fits is refined."""
BISECTIONS = 10
HALVINGS_MAX = 40
MARGIN = 1e-4
"""Part of each limit that is left unused, for rounding in other builds."""
GOLDEN = "probe.logit"
ALPHA = "step_alpha"
"""Figure in the version's metrics: share of the way to the learner's newest; 1 = all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepBounds:
    """How far answers may move from one version to the next.

    Attributes:
        mean_logit: Largest mean |Δ log-odds| over the probe's rows.
        max_logit: Largest |Δ log-odds| of any of them.
        free_labels: Before so many labels were learned nothing is limited.
    """

    mean_logit: float = 0.05
    max_logit: float = 1.0
    free_labels: int = 5_000

    def allow(self, step: Step) -> bool:
        """Whether a step keeps within the limits."""
        part = 1 - MARGIN
        return step.mean_logit <= self.mean_logit * part and step.max_logit <= self.max_logit * part


class Formula(Protocol):
    """The forward pass on arrays; implementation `formula_torch.TorchFormula`."""

    def scaled(self, x: NDArray[np.float32], mean: Array, scale: Array) -> NDArray[np.float32]:
        """Return z, shape (m, n)."""

    def forward(
        self, kind: str, arrays: Arrays, x: NDArray[np.float32], z: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return a member's log-odds, shape (m,), before ln β; arrays by their short names."""


def bounded(
    previous: Weights | None, candidate: Weights, bounds: StepBounds, formula: Formula
) -> Weights:
    """Return the candidate, or the farthest version towards it that keeps within the limits.

    `step` of what is returned says how far the probe's answers moved, `metrics["step_alpha"]` how
    much of the way was gone. When the candidate stands still, repeating this reaches it after
    finitely many versions: each but the last moves as far as it may.

    Args:
        previous: What was published last; None for the first version. One of another spec says
            nothing of these vectors, and counts as none.
        candidate: What the learner would publish.
        bounds: The limits.
        formula: The forward pass that scorers use.
    """
    if (
        previous is None
        or previous.schema_digest != candidate.schema_digest
        or not len(candidate.arrays["probe.x"])
    ):
        return replace(candidate, step=Step(), metrics={**candidate.metrics, ALPHA: 1.0})
    way = Way(Blend(previous, candidate), formula)
    free = candidate.labels_learned < bounds.free_labels
    alpha = 1.0 if free else farthest(lambda alpha: bounds.allow(way.step_at(alpha)))
    step = way.step_at(alpha)
    metrics = {**candidate.metrics, ALPHA: alpha}
    if alpha == 1 and not way.blend.held_back:
        return replace(candidate, step=step, metrics=metrics)
    mixture = way.blend.at(alpha)
    arrays = {**mixture.arrays, GOLDEN: way.logit_at(alpha).astype(np.float32)}
    return replace(mixture, arrays=arrays, step=step, metrics=metrics)


def answered(weights: Weights, formula: Formula) -> Weights:
    """Return the version with the probe's answers as scorers work them out.

    A learner's own arithmetic may differ from theirs in the last bits of a sum, and scorers refuse
    a version whose golden batch they cannot reproduce.
    """
    if not len(weights.arrays["probe.x"]):
        return weights
    logit = Way(Blend(weights, weights), formula).logit_at(1.0)
    return replace(weights, arrays={**weights.arrays, GOLDEN: logit.astype(np.float32)})


def farthest(fits: Callable[[float], bool]) -> float:
    """Return a share in [0, 1] that fits, none larger on a grid of 1/16 doing so.

    What fits need not be an interval; 0 is taken to fit.
    """
    if fits(1.0):
        return 1.0
    low, high = 0.0, 1.0 / GRID
    for point in range(GRID - 1, 0, -1):
        if fits(point / GRID):
            low, high = point / GRID, (point + 1) / GRID
            break
    if low == 0.0:
        for _ in range(HALVINGS_MAX):
            if fits(high / 2):
                low = high / 2
                break
            high /= 2
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def movement(before: NDArray[np.float64], after: NDArray[np.float64]) -> Step:
    """Return how far log-odds moved, both of shape (m,), m ≥ 1."""
    moved = np.abs(after - before)
    chance = np.abs(1 / (1 + np.exp(-after)) - 1 / (1 + np.exp(-before)))
    return Step(
        mean_logit=float(moved.mean()), max_logit=float(moved.max()), max_p=float(chance.max())
    )


class Way:
    """A blend, with the probe's answers anywhere on it."""

    def __init__(self, blend: Blend, formula: Formula) -> None:
        """Answer the probe as the version before did; of tables only the probe's rows are read."""
        self.blend = blend
        self._formula = formula
        self._x = np.asarray(blend.candidate.arrays["probe.x"], np.float32)
        self._legs = [_narrowed(leg, self._x) for leg in blend.legs]
        self._still: dict[int, NDArray[np.float64]] = {}
        self._same_scaler = all(
            np.array_equal(blend.previous.arrays[name], blend.candidate.arrays[name])
            for name in ("scaler.mean", "scaler.scale")
        )
        self._known: dict[float, NDArray[np.float64]] = {}
        self._before = self.logit_at(0.0)

    def step_at(self, alpha: float) -> Step:
        """Return the movement from the version before."""
        return movement(self._before, self.logit_at(alpha))

    def logit_at(self, alpha: float) -> NDArray[np.float64]:
        """Return the probe's log-odds, shape (P,)."""
        if alpha in self._known:
            return self._known[alpha]
        blend = self.blend
        z = self._formula.scaled(
            self._x, blend.scaler_at("scaler.mean", alpha), blend.scaler_at("scaler.scale", alpha)
        )
        lanes = {lane.name: lane for lane in blend.lanes_at(alpha)}
        totals = {name: np.zeros(len(self._x)) for name in lanes}
        for index, (leg, x) in enumerate(self._legs):
            ref = leg.at(alpha)
            if ref.weight > 0 and ref.lane in lanes:
                logit = self._logit_of(index, leg, x, z, alpha) + np.log(ref.beta)
                totals[ref.lane] += ref.weight * logit
        known = np.zeros(len(self._x))
        for name, lane in lanes.items():
            known += lane.weight * (lane.a * totals[name] + lane.b)
        self._known[alpha] = known
        return known

    def _logit_of(
        self,
        index: int,
        leg: Leg,
        x: NDArray[np.float32],
        z: NDArray[np.float32],
        alpha: float,
    ) -> NDArray[np.float64]:
        if index in self._still:
            return self._still[index]
        logit = self._formula.forward(leg.ref.kind, leg.arrays_at(alpha), x, z).astype(np.float64)
        if not leg.glides and (leg.ref.kind == "trees" or self._same_scaler):
            self._still[index] = logit
        return logit


def _narrowed(leg: Leg, x: NDArray[np.float32]) -> tuple[Leg, NDArray[np.float32]]:
    """Return the leg with those rows of its tables that the probe reads, and the probe for it."""
    tables = [name for name in leg.end if name.startswith("embed.")]
    if not tables:
        return leg, x
    x = x.copy()
    rows = {}
    for name in tables:
        column = int(name.removeprefix("embed."))
        found = x[:, column]
        inside = (found >= 0) & (found < len(leg.end[name]))  # NaN is not
        chosen = np.where(inside, found, 0).astype(np.int64)
        rows[name], place = np.unique(np.append(0, chosen), return_inverse=True)
        x[:, column] = place[1:]
    start, end = (
        {n: a[rows[n]] if n in rows else a for n, a in arrays.items()}
        for arrays in (leg.start, leg.end)
    )
    return replace(leg, start=start if leg.glides else end, end=end), x
