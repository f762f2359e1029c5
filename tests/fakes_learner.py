"""A small learner that is exact, quick, and sensitive to the order and the batches of its rows."""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.learner import Stamp, StateMismatch
from models.weights import LaneRef, MemberRef, Weights
from models.weights_kinds import QUANTILES, network_shapes

BATCH_ROWS = 8
TABLE = (5_000, 4)  # of which a row of learning moves one: most of a version stays as it was


class MemoryLearner:
    """A logistic regression by mini-batches, and a table of which each row moves one entry."""

    def __init__(self, n_features: int, digest: str, model: str = "champion") -> None:
        self._n, self._digest, self._model = n_features, digest, model
        self._w = np.zeros(n_features, np.float32)
        self._table = np.zeros(TABLE, np.float32)
        self._seen = np.zeros(n_features, np.float32)
        self._waiting: list[tuple[NDArray[np.float32], int, int]] = []

    def observe_many(self, X: NDArray[np.float32], p: NDArray[np.float64]) -> None:
        for x in np.nan_to_num(X):
            self._seen = np.float32(0.99) * self._seen + np.float32(0.01) * x

    def learn_many(
        self, X: NDArray[np.float32], y: NDArray[np.uint8], ids: NDArray[np.uint64]
    ) -> None:
        for x, truth, name in zip(np.nan_to_num(X), y, ids, strict=True):
            self._waiting.append((x, int(truth), int(name)))
            if len(self._waiting) == BATCH_ROWS:
                self.flush()

    def forget_many(self, ids: NDArray[np.uint64]) -> None:
        for name in ids:
            self._table[int(name) % TABLE[0]] -= 1

    def flush(self) -> None:
        if not self._waiting:
            return
        X = np.stack([x for x, _, _ in self._waiting])
        y = np.array([truth for _, truth, _ in self._waiting], np.float32)
        self._w += np.float32(0.01) * ((y - self.predict_many(X)) @ np.tanh(X)).astype(np.float32)
        for _, truth, name in self._waiting:
            self._table[name % TABLE[0]] += self._w[0] + truth
        self._waiting = []

    def predict_many(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-(np.tanh(np.nan_to_num(X)) @ self._w))), np.float64)

    def snapshot(self, stamp: Stamp) -> Weights:
        shapes = network_shapes(self._n, (2, 2), 1, {0: TABLE})
        own = {name: np.zeros(shape, np.float32) for name, (_, shape) in shapes.items()}
        own["linear"] = self._w[None].copy()
        own["embed.0"] = self._table.copy()
        arrays = {
            "scaler.mean": self._seen.copy(),
            "scaler.scale": np.ones(self._n, np.float32),
            "quantiles": np.linspace(0, 1, QUANTILES, dtype=np.float32),
            "probe.x": np.zeros((4, self._n), np.float32),
            "probe.logit": np.zeros(4, np.float32),
        }
        arrays |= {f"delayed.network.{name}": array for name, array in own.items()}
        return Weights(
            model=self._model,
            version=stamp.version,
            schema_digest=self._digest,
            parent_sha256=stamp.parent_sha256,
            offsets=stamp.offsets,
            learned_until_ms=stamp.learned_until_ms,
            labels_learned=stamp.labels_learned,
            created_at_ms=stamp.created_at_ms,
            metrics=stamp.metrics,
            code_version=stamp.code_version,
            lanes=(LaneRef(name="delayed", weight=1.0),),
            members=(MemberRef(lane="delayed", name="network", kind="network", weight=1.0),),
            arrays=arrays,
        )

    def state_changes(self) -> dict[str, bytes]:
        arrays = (self._w, self._table, self._seen)
        state = [self._digest, *(array.tobytes() for array in arrays)]
        return {"state": msgspec.msgpack.encode(state)}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        if parts:
            digest, w, table, seen = msgspec.msgpack.decode(parts["state"])
            if digest != self._digest:
                raise StateMismatch(f"learned with spec {digest[:12]}")
            self._w = np.frombuffer(w, np.float32).copy()
            self._table = np.frombuffer(table, np.float32).reshape(TABLE).copy()
            self._seen = np.frombuffer(seen, np.float32).copy()
