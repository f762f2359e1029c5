"""labelled rows → a changed learner → a Part of the next version: what every learner promises.

A learner is one way of believing: a stack of networks, a logistic regression, trees. Learners of
one lane share a memory of labelled rows (`models.memory`), and all of them share a normaliser, so
a learner keeps only what is its own. `models.ensemble` holds them, weighs them, and turns their
parts into `Weights`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.memory import Memory

PRIOR_RATE = 0.01
"""Fraud rate that is believed before the first label."""
ENTRY_POINTS = "riskbeat.learners"
"""Group of entry points: name → `Factory`. Ours are declared in pyproject.toml like a user's."""


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


@dataclass(frozen=True, slots=True)
class Category:
    """A column that holds the index of a category (0 = absent), a whole number below `size`."""

    name: str
    column: int
    size: int


@dataclass(frozen=True, slots=True)
class Space:
    """What vectors look like: the part of a feature spec that learners need.

    Attributes:
        digest: SHA-256 (hex) of the spec.
        names: Of the features, in vector order.
        categories: Columns that are no quantities. The normaliser makes them 0 in `Rows.z`.
        calendar: Columns that say what time it is: another distribution each day is no drift.
    """

    digest: str
    names: tuple[str, ...]
    categories: tuple[Category, ...] = ()
    calendar: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """Length of a vector."""
        return len(self.names)


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Labelled vectors.

    Attributes:
        X: As they were scored, float32, shape (m, n); NaN = missing, never infinite.
        z: The same, normalised (`models.scaling.Normaliser.transform`): no NaN, within ±8.
        y: 1 fraud, 0 legit; uint8, shape (m,).
        w: Importance, 1 = one event (above 1: it stands for others that could not be learned).
        ids: Identity hashes, uint64; with the seed they decide every random choice.
        at_ms: Event times, int64.
    """

    X: NDArray[np.float32]
    z: NDArray[np.float32]
    y: NDArray[np.uint8]
    w: NDArray[np.float32]
    ids: NDArray[np.uint64]
    at_ms: NDArray[np.int64]

    def __len__(self) -> int:
        """Rows held."""
        return len(self.y)

    def part(self, chosen: slice | NDArray[np.intp] | NDArray[np.bool_]) -> "Rows":
        """Return some of the rows."""
        return Rows(
            self.X[chosen],
            self.z[chosen],
            self.y[chosen],
            self.w[chosen],
            self.ids[chosen],
            self.at_ms[chosen],
        )

    def weighted(self, w: NDArray[np.float32]) -> "Rows":
        """Return the rows with other weights."""
        return replace(self, w=w)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What one learner contributes to a version: one forward pass and its arrays.

    Attributes:
        kind: `network`, `linear` or `trees`; `models.weights` lists the arrays of each.
        arrays: Copies, or arrays that are never written again.
        beta: Share of legit rows that were learned from, in (0, 1]: scoring adds ln β.
        changed_rows: Array name → rows that changed since the learner's last snapshot, where the
            learner knows (large tables); an array without an entry is compared.
        steady: Trees only: the number of the refresh that grew them. A part with another number
            is faded in (`models.ensemble`), since trees jump where networks glide.
    """

    kind: str
    arrays: Mapping[str, NDArray[np.float32] | NDArray[np.int32]]
    beta: float = 1.0
    changed_rows: Mapping[str, NDArray[np.int64]] | None = None
    steady: int = 0


Normalise = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a learner is made with.

    Attributes:
        space: Vectors.
        lane: `feedback` or `delayed`.
        seed: Decides first values and every draw.
        memory: Labelled rows of the lane, kept and checkpointed by its owner; read only. A batch
            is appended to it after all learners of the lane have learned it.
        normalise: X → z by the normaliser as it stands now.
        options: Settings of this learner, by name; unknown names are refused (ValueError).
    """

    space: Space
    lane: str
    seed: int
    memory: Memory
    normalise: Normalise
    options: Mapping[str, float | int | str]


class Learner(Protocol):
    """Something that learns from labelled rows and can be frozen into a `Part`.

    Laws (`tests/contract/test_learner.py`): predicting changes nothing; the same seed and the same
    calls give the same part, bit for bit; restoring what `state_changes` gave continues as if
    never stopped; the part scores as the learner predicts (1e-5 in log-odds); features may be
    missing (NaN) and come back; memory is bounded.
    Implementations: `learner_torch`, `learner_river`, `learner_lightgbm`.
    """

    def learn_many(self, rows: Rows) -> None:
        """Learn new rows (1 to a few thousand), once each; may rehearse old ones of the memory."""

    def forget_many(self, rows: Rows) -> None:
        """Undo rows whose label was withdrawn or turned; as far as can be, at least their pull.

        The memory has already made them weightless. A turned row is learned again afterwards.
        """

    def advance(self, clock_ms: int) -> None:
        """Hear the largest event time decided; background work begins and ends by this clock."""

    def pace(self, factor: float) -> None:
        """Learn faster (factor above 1, after drift) or at the usual pace (1) from now on."""

    def predict_many(self, X: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return log-odds, float32, shape (m,), corrected for undersampling."""

    def snapshot(self) -> Part:
        """Return what is known now; later learning does not change it."""

    def state_changes(self) -> dict[str, bytes]:
        """Return the named parts of the state that changed since the last call.

        All parts ever returned, the newest of each name, are the whole state.
        """

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the learner whose parts these are; no parts: a new one.

        Raises:
            StateMismatch: They are another learner's.
        """

    @property
    def memory_bytes(self) -> int:
        """Bytes that its own state takes at most: a bound, not a measurement."""


Factory = Callable[[Context], Learner]
