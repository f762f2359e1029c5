"""a stream of numbers → whether their mean has changed: River's ADWIN, and its state as bytes.

River's detector says its state in bytes of its own, which it trusts when they come back. So they
travel with River's version, the significance and a checksum, and nothing is handed to it that it
did not write itself. No pickle.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec
import xxhash
from river.drift import ADWIN

from models.drift import DriftFound
from models.learner import StateMismatch

RIVER = version("river")


class _State(msgspec.Struct):
    river: str
    significance: float
    detected: bool
    body: bytes
    checksum: int


class Adwin:
    """`drift.DriftDetector`: a window that drops its past when the past has another mean.

    Memory grows with the logarithm of the window (a few kilobytes).
    Source: Bifet, Gavalda, Learning from time-changing data with adaptive windowing, SDM 2007.
    """

    def __init__(self, significance: float) -> None:
        """Begin empty; `significance` is ADWIN's δ, in (0, 1): smaller is calmer."""
        self._significance = significance
        self._adwin: Any = ADWIN(delta=significance)  # type: ignore[no-untyped-call]

    @property
    def mean(self) -> float:
        """Mean of the window; 0 for an empty one."""
        return float(self._adwin.estimation)

    @property
    def width(self) -> int:
        """Values in the window."""
        return int(self._adwin.width)

    def update_many(self, values: Sequence[float]) -> list[DriftFound]:
        """Take values in [0, 1], in order; return what was found, in order."""
        found = []
        adwin = self._adwin
        for value in values:
            before = adwin.estimation
            adwin.update(value)
            if adwin.drift_detected:
                found.append(DriftFound(float(before), value))
        return found

    def dumps(self) -> bytes:
        """Return all that it knows."""
        body = self._adwin._helper.__getstate__()
        detected = bool(self._adwin.drift_detected)
        return msgspec.msgpack.encode(
            _State(RIVER, self._significance, detected, body, _checksum(body))
        )

    def loads(self, state: bytes) -> None:
        """Go on from a state.

        Raises:
            StateMismatch: Its bytes are damaged, or of another River or significance.
        """
        try:
            held = msgspec.msgpack.decode(state, type=_State)
        except msgspec.DecodeError as error:
            raise StateMismatch(f"drift detector: {error}") from error
        if (held.river, held.significance) != (RIVER, self._significance):
            raise StateMismatch(
                f"drift detector: kept by river {held.river} at δ {held.significance}; in use is "
                f"river {RIVER} at δ {self._significance}"
            )
        if held.checksum != _checksum(held.body):
            raise StateMismatch("drift detector: the state's bytes are damaged")
        self._adwin = ADWIN(delta=self._significance)  # type: ignore[no-untyped-call]
        self._adwin._helper.__setstate__(held.body)
        self._adwin._drift_detected = held.detected


def _checksum(body: bytes) -> int:
    return xxhash.xxh3_64_intdigest(body)
