"""labelled rows → River's learners: a logistic regression, a Hoeffding tree, an adaptive forest.

The entry points `logistic`, `hoeffding` and `forest`. The regression reads normalised vectors and
is exported as the kind `linear`; trees read raw vectors (`models.forest_river`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from river.forest import ARFClassifier
from river.linear_model import LogisticRegression
from river.optim import SGD, AdaGrad, Adam
from river.tree import HoeffdingTreeClassifier

from models.forest_river import BAGGING_RATE, PACE_MAX, RiverTrees
from models.learner import PRIOR_RATE, Context, Part, Rows, StateMismatch
from models.options import read_options, within
from models.splitter_river import LeanSplitter
from models.state_river import decode_state, encode_state
from models.thinning import survives
from models.tree_options import TreeOptions

NEVER = 2**62
"""Weight after which River would estimate a tree's bytes; `max_leaves` bounds them instead."""
OPTIMIZERS = {"sgd": SGD, "adagrad": AdaGrad, "adam": Adam}
NUMBERS_PER_WEIGHT = 4
"""A weight, and what an optimizer keeps beside it, and a gradient."""


@dataclass(frozen=True, slots=True)
class LogisticOptions:
    """Settings of the logistic regression.

    Attributes:
        optimizer: `sgd`, `adagrad` (a step size for each weight) or `adam`.
        rate: Step size.
        l2: Pull of the weights towards 0.
        beta: Share of legit rows learned from; scoring corrects for it.
    """

    optimizer: str = "adagrad"
    rate: float = 0.05
    l2: float = 0.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(
                f"optimizer must be one of {', '.join(OPTIMIZERS)}, not {self.optimizer!r}"
            )
        within("rate", self.rate, 1e-6, 10.0)
        within("l2", self.l2, 0.0, 1.0)
        within("beta", self.beta, 1e-4, 1.0)


class _Core(msgspec.Struct):
    made_by: str
    pace: float
    model: bytes


class RiverLogistic:
    """`learner.Learner` of River's `LogisticRegression`: one step for each row."""

    def __init__(self, context: Context) -> None:
        """Make a learner that has seen nothing and believes the prior rate.

        Raises:
            ValueError: An option is unknown or out of range.
        """
        self._context = context
        self._options = read_options("logistic", LogisticOptions, context.options)
        self._reset()

    def _reset(self) -> None:
        options = self._options
        prior = math.log(PRIOR_RATE / (1.0 - PRIOR_RATE)) - math.log(options.beta)
        self.model = LogisticRegression(
            OPTIMIZERS[options.optimizer](options.rate), l2=options.l2, intercept_init=prior
        )
        self._pace = 1.0
        self._arrays: dict[str, NDArray[np.float32]] | None = None

    def learn_many(self, rows: Rows) -> None:
        """Thin the legit rows, then take a step for each row; see the port."""
        self._steps(rows, 1.0)

    def forget_many(self, rows: Rows) -> None:
        """Take one step away from each row: what it pulled, at today's slope.

        Exact only while the slope there is what it was; what later steps made of it stays.
        """
        self._steps(rows, -1.0)

    def advance(self, clock_ms: int) -> None:
        """Do nothing: no work waits for a time; see the port."""

    def pace(self, factor: float) -> None:
        """Multiply the step size from now on, by at most `PACE_MAX`; see the port."""
        self._pace = min(max(factor, 1.0 / PACE_MAX), PACE_MAX)
        self.model.optimizer.lr.learning_rate = self._options.rate * self._pace

    def predict_many(self, X: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return log-odds; see the port."""
        arrays = self._weights()
        bias = float(arrays["bias"][0]) + math.log(self._options.beta)
        return np.asarray((z @ arrays["linear"] + np.float32(bias)).astype(np.float32))

    def snapshot(self) -> Part:
        """Return the weights in vector order; see the port."""
        return Part("linear", self._weights(), self._options.beta)

    def state_changes(self) -> dict[str, bytes]:
        """Return the whole state, which is small; see the port."""
        core = _Core(self._made_by(), self._pace, encode_state(self.model))
        return {"core": msgspec.msgpack.encode(core)}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the learner whose parts these are; see the port."""
        self._reset()
        if "core" not in parts:
            return
        core = msgspec.msgpack.decode(parts["core"], type=_Core)
        if core.made_by != self._made_by():
            raise StateMismatch(f"made by {core.made_by}, not by {self._made_by()}")
        self.model = decode_state(core.model, LogisticRegression)
        self._pace = core.pace

    @property
    def memory_bytes(self) -> int:
        """Bytes of weights and of what the optimizer keeps; a bound."""
        return 16_384 + self._context.space.n * NUMBERS_PER_WEIGHT * 128

    def _made_by(self) -> str:
        context = self._context
        return (
            f"logistic {self._options} of lane {context.lane}, seed {context.seed}, "
            f"spec {context.space.digest} with {context.space.n} features"
        )

    def _steps(self, rows: Rows, sign: float) -> None:
        kept = (rows.y == 1) | survives(rows.ids, self._options.beta, self._context.seed)
        if kept.any():
            rows = rows.part(kept)
            self._arrays = None
        else:
            return
        labels, weights = rows.y.astype(bool).tolist(), (sign * rows.w).tolist()
        for z, y, w in zip(rows.z.tolist(), labels, weights, strict=True):
            self.model.learn_one(dict(enumerate(z)), y, w)

    def _weights(self) -> dict[str, NDArray[np.float32]]:
        if self._arrays is None:
            weights = self.model.weights
            linear = [weights.get(column, 0.0) for column in range(self._context.space.n)]
            self._arrays = {
                "linear": np.array(linear, np.float32),
                "bias": np.array([self.model.intercept], np.float32),
            }
        return self._arrays


def logistic(context: Context) -> RiverLogistic:
    """Make River's logistic regression; the entry point `logistic`."""
    return RiverLogistic(context)


def hoeffding(context: Context) -> RiverTrees:
    """Make one Hoeffding tree; the entry point `hoeffding`; options are `TreeOptions`'s.

    Raises:
        ValueError: An option is unknown or out of range.
    """
    options = read_options("hoeffding", TreeOptions, context.options)
    if options.trees != 1 or options.max_features:
        raise ValueError("hoeffding: it is one tree on all features; for more there is forest")

    def make() -> HoeffdingTreeClassifier:
        return HoeffdingTreeClassifier(**_of_a_tree(options))

    return RiverTrees("hoeffding", context, options, make)


FOREST = {"trees": 10, "grace_period": 50, "delta": 0.01, "beta": 0.2}
"""Where a forest's defaults differ from a tree's; the first three are River's."""


def forest(context: Context) -> RiverTrees:
    """Make an adaptive random forest; the entry point `forest`; options are `TreeOptions`'s.

    Raises:
        ValueError: An option is unknown or out of range.
    """
    options = read_options("forest", TreeOptions, FOREST | dict(context.options))
    if not options.max_features:
        options = replace(options, max_features=max(1, round(math.sqrt(context.space.n))))
    if options.max_features > context.space.n:
        raise ValueError(f"forest: max_features must be at most {context.space.n}")

    def make() -> ARFClassifier:
        return ARFClassifier(
            n_models=options.trees,
            max_features=options.max_features,
            lambda_value=round(BAGGING_RATE),
            seed=context.seed,
            **_of_a_tree(options),
        )

    return RiverTrees("forest", context, options, make)


def _of_a_tree(options: TreeOptions) -> dict[str, Any]:
    """Return what River's single trees and those of its forests are told alike."""
    return {
        "grace_period": options.grace_period,
        "max_depth": options.max_depth,
        "delta": options.delta,
        "tau": options.tau,
        "leaf_prediction": "mc",
        "splitter": LeanSplitter(),
        "min_branch_fraction": options.min_branch_fraction,
        "max_share_to_split": options.max_share_to_split,
        "memory_estimate_period": NEVER,
    }
