"""Snapshot, vectors, events → Reasons: which features moved a score, which way and how far.

Contributions are additive and exact (`models.walk`). Beside each value stands what is usual: for
this very entity where the vector holds the same aggregate over a longer window, else the mean that
the model has seen, mapped back to the feature's unit. Reasons are ordered by the size of their
contribution.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.event import Event
from features.spec import Spec
from features.words_of_spec import words_of
from models.decision import Reason
from models.scaling import LEFT_OUT
from models.scorer import Snapshot, baseline_of
from models.weights import Weights

CONTRIBUTION_MIN = 0.01
"""Log-odds below which a contribution explains nothing and is left out."""
ABOVE, BELOW, MISSING, CATEGORY = "above_usual", "below_usual", "missing", "category"


class Explaining:
    """Speaks of the vectors of one spec."""

    def __init__(self, spec: Spec) -> None:
        """Put the words for every feature together."""
        self._names = spec.feature_names
        self._words = words_of(spec)
        self._seen: tuple[Weights, list[float], list[bool]] | None = None

    def explain_many(
        self,
        snapshot: Snapshot,
        X: NDArray[np.float32],
        events: Sequence[Event],
        at_most: int,
    ) -> list[list[Reason]]:
        """Return the reasons of each vector, largest contribution first.

        Args:
            snapshot: The version that scored them.
            X: The scored vectors, shape (m, n_features).
            events: Of the vectors, m.
            at_most: Reasons per vector.
        """
        parts = snapshot.explain_many(X)
        usual, categories = self._of_version(snapshot.weights)
        size = np.abs(parts)
        order = np.argsort(-size, axis=1, kind="stable")[:, :at_most]
        return [
            [
                self._reason(i, x, event, part, usual, categories)
                for i, part in zip(chosen, row[chosen].tolist(), strict=True)
                if abs(part) >= CONTRIBUTION_MIN
            ]
            for x, event, row, chosen in zip(X, events, parts, order.tolist(), strict=True)
        ]

    def _of_version(self, weights: Weights) -> tuple[list[float], list[bool]]:
        seen = self._seen
        if seen is None or seen[0] is not weights:
            categories = weights.arrays["scaler.scale"] >= LEFT_OUT
            seen = weights, baseline_of(weights).tolist(), categories.tolist()
            self._seen = seen
        return seen[1], seen[2]

    def _reason(
        self,
        i: int,
        x: NDArray[np.float32],
        event: Event,
        part: float,
        means: Sequence[float],
        categories: Sequence[bool],
    ) -> Reason:
        words, name = self._words[i], self._names[i]
        found = float(x[i])
        value = None if found != found else found  # noqa: PLR0124 - only NaN is not itself
        of_entity = None if words.usual is None else words.usual.of(x)
        usual = means[i] if of_entity is None else of_entity
        return Reason(
            code=code_of(name, value, usual, category=categories[i]),
            feature=name,
            value=value,
            baseline=round(usual, 6),
            baseline_of="population" if of_entity is None else "entity",
            contribution=round(part, 6),
            text=words.sentence(value, event, usual, of_entity is not None),
        )


def code_of(feature: str, value: float | None, usual: float, *, category: bool = False) -> str:
    """Return a readable, stable code, as in `card_count_over_10m_above_usual`.

    A missing value moves a score where trees have learned that it is missing; a category has no
    side of usual: `card_since_last_missing`, `mcc_category`.
    """
    if value is None:
        side = MISSING
    elif category:
        side = CATEGORY
    else:
        side = ABOVE if value > usual else BELOW
    return f"{feature.replace('.', '_')}_{side}"
