"""a stream of numbers → whether their mean has changed: River's ADWIN, and its state as bytes.

The compiled window of `river.drift.ADWIN` is used by itself, as `river.drift` brings scipy's
statistics and River's data sets along, a third of a learner's start. It says its state in bytes of
its own, which it trusts when they come back. So they travel with River's version, the significance
and a checksum, and nothing is handed to it that it did not write itself. No pickle.
"""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import msgspec
import xxhash
from river._river_rust.drift import AdaptiveWindowing

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
        self._window = _empty(significance)
        self._detected = False

    @property
    def mean(self) -> float:
        """Mean of the window; 0 for an empty one."""
        width = self.width
        return float(self._window.get_total()) / width if width else 0.0

    @property
    def width(self) -> int:
        """Values in the window."""
        return int(self._window.get_width())

    def update_many(self, values: Sequence[float]) -> list[DriftFound]:
        """Take values in [0, 1], in order; return what was found, in order."""
        found = []
        for value in values:
            before = self.mean
            if self._detected:
                self._window = _empty(self._significance)
            self._detected = bool(self._window.update(value))
            if self._detected:
                found.append(DriftFound(before, value))
        return found

    def dumps(self) -> bytes:
        """Return all that it knows."""
        body = self._window.__getstate__()
        return msgspec.msgpack.encode(
            _State(RIVER, self._significance, self._detected, body, _checksum(body))
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
        self._window = _empty(self._significance)
        self._window.__setstate__(held.body)
        self._detected = held.detected


def _empty(significance: float) -> Any:
    return AdaptiveWindowing(
        delta=significance, clock=32, max_buckets=5, min_window_length=5, grace_period=10
    )


def _checksum(body: bytes) -> int:
    return xxhash.xxh3_64_intdigest(body)
