"""(Vector, label) → a changed learner: what every learner promises, whatever it is made of."""

from collections.abc import Mapping
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.weights import Weights

PRIOR_RATE = 0.01
"""Fraud rate that is believed before the first label."""


class StateMismatch(ValueError):
    """A checkpoint was made by another kind of learner, or for other vectors."""


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is told about itself; fields as in `models.weights.Weights`."""

    version: int
    parent_sha256: str
    offsets: Mapping[str, int]
    learned_until_ms: int
    labels_learned: int
    created_at_ms: int
    metrics: Mapping[str, float]
    code_version: str


class Learner(Protocol):
    """Something that learns from labelled vectors and can be frozen into weights.

    Laws (`tests/contract/test_learner.py`): predicting changes nothing; the same seed and the same
    calls give the same weights, bit for bit; restoring what `state_changes` gave continues as if
    never stopped; features may be missing (NaN) and come back; memory is bounded.
    Implementation: `learner_torch.TorchLearner`.
    """

    def observe_many(self, X: NDArray[np.float32], p: NDArray[np.float64]) -> None:
        """See vectors that were scored, before anybody knows their label.

        Args:
            X: Shape (m, n_features), NaN = missing.
            p: Probabilities that they were given, shape (m,), NaN = none was.
        """

    def learn_many(
        self, X: NDArray[np.float32], y: NDArray[np.uint8], ids: NDArray[np.uint64]
    ) -> None:
        """Learn labelled vectors; may keep some back until `flush`.

        Args:
            X: Shape (m, n_features), NaN = missing.
            y: 1 fraud, 0 legit, shape (m,).
            ids: Identity hashes, shape (m,); with the seed they decide every random choice.
        """

    def forget_many(self, ids: NDArray[np.uint64]) -> None:
        """Stop rehearsing these rows: their label was withdrawn or has changed."""

    def flush(self) -> None:
        """Learn what `learn_many` kept back."""

    def predict_many(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return fraud probabilities, shape (m,), corrected for undersampling."""

    def snapshot(self, stamp: Stamp) -> Weights:
        """Return what is known now, as arrays that later learning does not change."""

    def state_changes(self) -> dict[str, bytes]:
        """Return the named parts of the state that changed since the last call.

        All parts ever returned, the newest of each name, are the whole state. Call `flush` first.
        """

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the learner whose parts these are; no parts: a new one.

        Raises:
            StateMismatch: They are another learner's.
        """
