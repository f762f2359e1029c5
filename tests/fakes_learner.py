"""Learners in memory: small, honest, and laws abiding; and what tests make ensembles of."""

import math
from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.learner import PRIOR_RATE, Context, Learner, Part, Rows, Space, StateMismatch
from models.plan import Member, Plan
from models.weights_kinds import network_shapes
from tests.builders_learn import DIGEST, FEATURES

TABLE = (5_000, 4)
SPACE = Space(DIGEST, tuple(f"f{index}" for index in range(FEATURES)))


class MemoryLearner:
    """`models.learner.Learner`: logistic regression by AdaGrad, one step per call.

    It undoes a row by the step that it would have taken from the row, backwards.
    """

    def __init__(self, context: Context) -> None:
        self._n = context.space.n
        self._made_by = f"{context.lane} {context.space.digest} {sorted(context.options.items())}"
        self._rate = float(context.options.get("rate", 0.3))
        self._reset()

    def _reset(self) -> None:
        self._theta = np.zeros(self._n + 1)
        self._theta[-1] = math.log(PRIOR_RATE / (1 - PRIOR_RATE))
        self._squares = np.full(self._n + 1, 1e-3)
        self._pace = 1.0

    def learn_many(self, rows: Rows) -> None:
        slope = self._slope(rows)
        self._squares += slope**2
        self._theta -= self._pace * self._rate * slope / np.sqrt(self._squares)

    def forget_many(self, rows: Rows) -> None:
        self._theta += self._pace * self._rate * self._slope(rows) / np.sqrt(self._squares)

    def _slope(self, rows: Rows) -> NDArray[np.float64]:
        z = self._columns(rows.z)
        p = 1 / (1 + np.exp(-(z @ self._theta)))
        return np.asarray((rows.w * (p - rows.y)) @ z / max(len(rows), 1))

    def _columns(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.concatenate([z.astype(np.float64), np.ones((len(z), 1))], axis=1)

    def advance(self, clock_ms: int) -> None:
        pass

    def pace(self, factor: float) -> None:
        self._pace = factor

    def predict_many(self, X: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        return (self._columns(z) @ self._theta).astype(np.float32)

    def snapshot(self) -> Part:
        theta = self._theta.astype(np.float32)
        return Part("linear", {"linear": theta[:-1], "bias": theta[-1:]})

    def state_changes(self) -> dict[str, bytes]:
        arrays = [self._theta.tobytes(), self._squares.tobytes()]
        return {"core": msgspec.msgpack.encode([self._made_by, self._pace, *arrays])}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        self._reset()
        if "core" in parts:
            made_by, self._pace, theta, squares = msgspec.msgpack.decode(parts["core"])
            if made_by != self._made_by:
                raise StateMismatch(made_by)
            self._theta, self._squares = np.frombuffer(theta).copy(), np.frombuffer(squares).copy()

    @property
    def memory_bytes(self) -> int:
        return 2 * 8 * (self._n + 1)


class MemoryForest(MemoryLearner):
    """The same, published as one tree of one split; grown anew each `refresh_ms` of event time."""

    def __init__(self, context: Context) -> None:
        self._refresh_ms = int(context.options.get("refresh_ms", 1000))
        super().__init__(context)

    def _reset(self) -> None:
        super()._reset()
        self._clock_ms = 0
        self._steady = 0
        self._values = (float(self._theta[-1]),) * 3

    def advance(self, clock_ms: int) -> None:
        if clock_ms // self._refresh_ms > self._clock_ms // self._refresh_ms:
            self._steady += 1
            step = float(self._theta[0])
            base = float(self._theta[-1])
            self._values = (base, base - step, base + step)
        self._clock_ms = max(clock_ms, self._clock_ms)

    def predict_many(self, X: NDArray[np.float32], z: NDArray[np.float32]) -> NDArray[np.float32]:
        _, left, right = self._values
        return np.where(X[:, 0] <= 1.0, left, right).astype(np.float32)

    def snapshot(self) -> Part:
        one = lambda *values: np.array([values], np.int32)  # noqa: E731
        arrays: dict[str, NDArray[np.float32] | NDArray[np.int32]] = {
            "feature": one(0, 0, 0),
            "threshold": np.array([[1.0, 0.0, 0.0]], np.float32),
            "left": one(1, 1, 2),
            "right": one(2, 1, 2),
            "missing_left": one(0, 0, 0),
            "value": np.array([self._values], np.float32),
            "bias": np.zeros(1, np.float32),
            "depth": np.ones(1, np.int32),
            "link": np.zeros(1, np.int32),
        }
        return Part("trees", arrays, steady=self._steady)

    def state_changes(self) -> dict[str, bytes]:
        grown = [self._clock_ms, self._steady, *self._values]
        return super().state_changes() | {"grown": msgspec.msgpack.encode(grown)}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        super().restore(parts)
        if "grown" in parts:
            self._clock_ms, self._steady, *values = msgspec.msgpack.decode(parts["grown"])
            self._values = (values[0], values[1], values[2])


class MemoryTable(MemoryLearner):
    """The same with an embedding, of whose table each learned row moves one entry."""

    def _reset(self) -> None:
        super()._reset()
        self._table = np.zeros(TABLE, np.float32)

    def learn_many(self, rows: Rows) -> None:
        super().learn_many(rows)
        for name, y in zip(rows.ids.tolist(), rows.y.tolist(), strict=True):
            self._table[name % TABLE[0]] += np.float32(self._theta[0]) + y

    def snapshot(self) -> Part:
        shapes = network_shapes(self._n, (2, 2), 1, {0: TABLE})
        arrays = {name: np.zeros(shape, np.float32) for name, (_, shape) in shapes.items()}
        theta = self._theta.astype(np.float32)
        arrays |= {"linear": theta[None, :-1], "b2": theta[-1:], "embed.0": self._table.copy()}
        return Part("network", arrays)

    def state_changes(self) -> dict[str, bytes]:
        return super().state_changes() | {"table": self._table.tobytes()}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        super().restore(parts)
        if "table" in parts:
            self._table = np.frombuffer(parts["table"], np.float32).reshape(TABLE).copy()


def make_in_memory(name: str, context: Context) -> Learner:
    """What tests give an ensemble in place of `models.learners.make`."""
    kinds = {"linear": MemoryLearner, "forest": MemoryForest, "table": MemoryTable}
    if name not in kinds:
        raise ValueError(f"there is no learner {name!r}")
    return kinds[name](context)


def a_plan(**changed: object) -> Plan:
    """One linear member in each lane, with small memories."""
    told: dict[str, object] = {
        "lanes": {
            "feedback": {"slow": Member("linear", {"rate": 0.1})},
            "delayed": {"slow": Member("linear", {"rate": 0.1})},
        },
        "step_rows": 8,
        "keep_rows": 256,
        "keep_frauds": 256,
        "lane_frauds_min": 5,
    }
    return Plan(**(told | changed))  # type: ignore[arg-type]
