"""Snapshot, vectors → Reasons: which features moved a score, which way and how far.

Method: additive contributions of every member (`Snapshot.explain_many`), the policy's `steps` for
what is integrated. The baseline beside each value is the scaler's mean, mapped back to the
feature's unit. Reasons are ordered by the size of their signed contribution.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.decision import Reason
from models.scaling import LEFT_OUT
from models.scorer import Snapshot, baseline_of

CONTRIBUTION_MIN = 0.01
"""Log-odds below which a contribution explains nothing and is left out."""


def explain_many(
    snapshot: Snapshot,
    X: NDArray[np.float32],
    names: Sequence[str],
    at_most: int,
    steps: int,
) -> list[list[Reason]]:
    """Return the reasons of each vector, largest contribution first.

    Args:
        snapshot: The version that scored them.
        X: The scored vectors, shape (m, n_features).
        names: Feature names, in vector order.
        at_most: Reasons per vector.
        steps: Points of the integration.
    """
    contributions = snapshot.explain_many(X, steps)
    baseline = baseline_of(snapshot.weights)
    categories = snapshot.weights.arrays["scaler.scale"] >= LEFT_OUT
    return [
        _reasons_of(x, row, baseline, categories, names, at_most)
        for x, row in zip(X, contributions, strict=True)
    ]


def code_of(feature: str, value: float, baseline: float, *, category: bool = False) -> str:
    """Return a readable, stable code, as in `card_count_over_10m_above_usual`.

    A missing value moves a score where trees have learned that it is missing; a category has no
    side of usual: `card_since_last_missing`, `mcc_category`.
    """
    if np.isnan(value):
        side = "missing"
    elif category:
        side = "category"
    else:
        side = "above_usual" if value > baseline else "below_usual"
    return f"{feature.replace('.', '_')}_{side}"


def _reasons_of(
    x: NDArray[np.float32],
    contributions: NDArray[np.float32],
    baseline: NDArray[np.float64],
    categories: NDArray[np.bool_],
    names: Sequence[str],
    at_most: int,
) -> list[Reason]:
    size = np.abs(contributions)
    largest = np.argsort(-size, kind="stable")[:at_most]
    return [
        Reason(
            code=code_of(names[i], float(x[i]), float(baseline[i]), category=bool(categories[i])),
            feature=names[i],
            value=None if np.isnan(x[i]) else float(x[i]),
            baseline=round(float(baseline[i]), 6),
            contribution=round(float(contributions[i]), 6),
        )
        for i in largest.tolist()
        if size[i] >= CONTRIBUTION_MIN
    ]
