"""forests, refreshed now and then → shares of the old and the new one: trees jump, shares glide.

A refreshed forest enters beside the one before with share 0, and takes over a fixed part of the
whole at each version. Both stand in the version as members "name.7" and "name.8" meanwhile.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.learner import Part

FADE_VERSIONS = 20
"""Versions until a new forest answers alone, when no other one follows."""
STANDING_MAX = 3
"""Forests side by side; when another one comes, the smallest share leaves."""
PROBABILITY_MIN = 1e-6

Array = NDArray[np.float32] | NDArray[np.int32]


class _Held(msgspec.Struct):
    steady: int
    kind: str
    beta: float
    arrays: dict[str, tuple[str, tuple[int, ...], bytes]]


class Fader:
    """The forests of one member, oldest first, and their shares, which sum to 1."""

    def __init__(self) -> None:
        """Stand empty until the first part comes."""
        self.parts: list[Part] = []
        self.shares: list[float] = []
        self._changed = False

    def follow(self, part: Part) -> None:
        """Take the learner's part of a new version, and move the shares by one version."""
        if not self.parts:
            self.parts, self.shares, self._changed = [part], [1.0], True
            return
        if part.steady != self.parts[-1].steady:
            if len(self.parts) == STANDING_MAX:
                least = self.shares.index(min(self.shares))
                del self.parts[least], self.shares[least]
                whole = sum(self.shares)
                self.shares = [share / whole for share in self.shares]
            self.parts.append(part)
            self.shares.append(0.0)
            self._changed = True
        self._move()

    def _move(self) -> None:
        """Give the newest part 1 / `FADE_VERSIONS` of the whole, taken from all others alike."""
        if len(self.parts) == 1:
            return
        rest = sum(self.shares[:-1])
        taken = min(rest, 1.0 / FADE_VERSIONS)
        self.shares = [share * (rest - taken) / rest for share in self.shares[:-1]] + [
            1.0 - (rest - taken)
        ]
        if rest - taken <= 1e-9:
            self.parts, self.shares, self._changed = self.parts[-1:], [1.0], True

    def logit_many(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the log-odds of the standing forests by their shares, shape (m,)."""
        total = np.zeros(len(X))
        for part, share in zip(self.parts, self.shares, strict=True):
            total += share * (forest_logit(part.arrays, X) + np.log(part.beta))
        return total

    def changed(self) -> dict[str, bytes]:
        """Return the standing parts if another set of them stands since the last call."""
        if not self._changed:
            return {}
        self._changed = False
        held = [
            _Held(
                part.steady,
                part.kind,
                part.beta,
                {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in part.arrays.items()},
            )
            for part in self.parts
        ]
        return {"standing": msgspec.msgpack.encode(held)}

    def restore(self, parts: Mapping[str, bytes], shares: list[float]) -> None:
        """Take parts back; the shares are kept by the owner, since they move at each version."""
        self.parts, self.shares, self._changed = [], list(shares), False
        if not shares:
            return
        for held in msgspec.msgpack.decode(parts["standing"], type=list[_Held]):
            arrays = {
                name: np.frombuffer(body, dtype).reshape(shape)
                for name, (dtype, shape, body) in held.arrays.items()
            }
            self.parts.append(Part(held.kind, arrays, held.beta, None, held.steady))


def forest_logit(arrays: Mapping[str, Array], X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return what a forest says of vectors: log-odds, shape (m,); kind `trees` of weights."""
    feature, threshold = arrays["feature"], arrays["threshold"]
    left, right, missing_left = arrays["left"], arrays["right"], arrays["missing_left"]
    tree = np.arange(feature.shape[0])
    node = np.zeros((len(X), feature.shape[0]), np.int64)
    row = np.arange(len(X))[:, None]
    for _ in range(int(arrays["depth"][0])):
        x = X[row, feature[tree, node]]
        goes_left = np.where(np.isnan(x), missing_left[tree, node] == 1, x <= threshold[tree, node])
        node = np.where(goes_left, left[tree, node], right[tree, node]).astype(np.int64)
    total = arrays["value"][tree, node].astype(np.float64).sum(axis=1) + float(arrays["bias"][0])
    if int(arrays["link"][0]) == 0:
        return np.asarray(total)
    p = np.clip(total, PROBABILITY_MIN, 1.0 - PROBABILITY_MIN)
    return np.asarray(np.log(p / (1.0 - p)))
