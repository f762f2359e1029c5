"""the active version's answers, the next one's → whether the next one may answer.

A learner bounds its own steps (`models/slew.py`) and freezes itself (`models/guard.py`); this is
what a scorer asks of it all the same, on the version's probe and on vectors that this very process
scored of late. Nothing here knows the truth: a version that passes may still be worse.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.psi import psi
from models.scorer import GOLDEN_TOLERANCE, WeightsRefused
from models.weights import Weights

Logits = NDArray[np.float64]

CLAIM_SLACK = 1e-3
"""Log-odds by which a step may exceed what its manifest says: rounding, in two builds."""
STILL_LOGIT = 0.25
"""Mean move of log-odds below which the distribution of scores is not judged: where all vectors
are alike, a quantile is a cliff, and the smallest move changes everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateBounds:
    """How far a version may lie from the active one; of each version in between, so much.

    Attributes:
        step_logit: Largest |Δ log-odds| of any row of the version's probe.
        psi: Largest population stability index of the scores of recent vectors.
        alert_share: Highest scores of the active version that count as alerts.
        alert_ratio: The next version may alert on so many times more of them, or fewer.
        free_labels: Before the active version had learned so many labels it may lie anywhere.
        rows_min: Recent vectors below which scores are not compared.
    """

    step_logit: float = 2.0
    psi: float = 0.25
    alert_share: float = 0.05
    alert_ratio: float = 3.0
    free_labels: int = 5_000
    rows_min: int = 128


def check_weights(weights: Weights, spec_digest: str, n_features: int) -> None:
    """Pass a version through the gate that needs no forward pass.

    Shapes and finite numbers were checked when its bytes were decoded.

    Raises:
        WeightsRefused: It was learned with another spec.
    """
    if weights.schema_digest != spec_digest or weights.n_features != n_features:
        detail = f"learned with spec {weights.schema_digest[:12]}, serving {spec_digest[:12]}"
        raise WeightsRefused(weights.version, "digest", detail)


def check_golden(weights: Weights, logit: Logits, tolerance: float = GOLDEN_TOLERANCE) -> None:
    """Compare our log-odds of the golden batch with the learner's.

    Raises:
        WeightsRefused: They differ by more than the tolerance (relative beyond 1).
    """
    theirs = weights.arrays["probe.logit"].astype(np.float64)
    apart = np.abs(logit - theirs) / np.maximum(1.0, np.abs(theirs))
    worst = float(apart.max(initial=0.0))
    if not worst <= tolerance:
        raise WeightsRefused(weights.version, "golden", f"log-odds differ by {worst:.3g}")


def check_claim(weights: Weights, before: Logits, after: Logits) -> None:
    """Compare the step from the version's parent with what its manifest says of it.

    Args:
        weights: The version, whose parent is the active one.
        before: Log-odds of its probe by the parent, shape (m,).
        after: The same by the version.

    Raises:
        WeightsRefused: The step is longer than the manifest says.
    """
    moved, said = _largest(before, after), weights.step.max_logit
    size = float(np.abs(np.concatenate([before, after])).max(initial=1.0))
    if not moved <= said + CLAIM_SLACK * size:
        detail = f"log-odds move by {moved:.3g}, by {said:.3g} says the manifest"
        raise WeightsRefused(weights.version, "step", detail)


def check_step(
    weights: Weights, before: Logits, after: Logits, bounds: GateBounds, steps: int
) -> None:
    """Bound how far the answers to the version's probe move at once.

    Args:
        weights: The version.
        before: Log-odds of its probe by the active version, shape (m,).
        after: The same by the version.
        bounds: The limits of one step.
        steps: Versions that lie between.

    Raises:
        WeightsRefused: They move farther.
    """
    moved, most = _largest(before, after), bounds.step_logit * steps
    if not moved <= most:
        detail = f"log-odds of the probe move by {moved:.3g}, at most {most:.3g} in {steps} steps"
        raise WeightsRefused(weights.version, "step", detail)


def check_scores(
    weights: Weights, before: Logits, after: Logits, bounds: GateBounds, steps: int
) -> None:
    """Bound how far the distribution of recent scores moves, and how many would be alerts.

    Arguments as of `check_step`, but of vectors that were scored of late.

    Raises:
        WeightsRefused: The distribution moves farther, or the share of alerts leaves its band.
    """
    if len(before) < bounds.rows_min:
        return
    if np.abs(after - before).mean() <= STILL_LOGIT:
        return
    moved, most = _psi(before, after), bounds.psi * steps
    if not moved <= most:
        detail = f"PSI of {len(before)} recent scores is {moved:.3g}, at most {most:.3g}"
        raise WeightsRefused(weights.version, "scores", detail)
    alert = np.quantile(before, 1.0 - bounds.alert_share)
    was, would = (float((logit >= alert).mean()) for logit in (before, after))
    ratio = bounds.alert_ratio**steps
    if not was / ratio <= would <= was * ratio:
        detail = f"{would:.1%} of {len(before)} recent vectors alert, {was:.1%} by the active one"
        raise WeightsRefused(weights.version, "alerts", detail)


def _largest(before: Logits, after: Logits) -> float:
    return float(np.abs(after - before).max(initial=0.0))


def _psi(before: Logits, after: Logits) -> float:
    one, other = (logit.astype(np.float32)[:, None] for logit in (before, after))
    return float(psi(one, other)[0])
