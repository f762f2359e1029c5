"""a candidate version and its figures → causes not to publish it, each with how bad it is.

A cause has a name ("norm:delayed.network"), a level that grows as it gets worse, and a sentence.
The part of its name before the colon is its kind, of the closed set `KINDS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from models.slew import ALPHA
from models.weights import Weights
from models.weights_kinds import arrays_of, is_finite

KINDS = ("finite", "norm", "labels", "frauds", "share", "figures")
NORM_FLOOR = 1.0
"""Norms below it are no explosion, whatever they were."""
NORM_VERSIONS = 256.0
"""Versions over which a member's usual norm is averaged, once the warm-up is over."""

Cause = tuple[float, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRules:
    """What is too much.

    Attributes:
        free_labels: Before so many labels were learned, norms and figures are only noted.
        norm_factor: Largest norm of a member's arrays, as a multiple of its usual one.
        fall: Largest part of a reference figure that may be lost, in (0, 1).
        judged_min: Judged predictions that figures must rest on.
        frauds_min: Frauds among them.
        best_half_life_ms: Event time in which a best figure loses half of its claim.
        watched: Figures of which all must have fallen. Precision alone also falls when frauds
            grow rare, recall at a fixed rate of false alarms does not.
    """

    free_labels: int = 5_000
    norm_factor: float = 3.0
    fall: float = 0.4
    judged_min: int = 2_000
    frauds_min: int = 30
    best_half_life_ms: float = 60 * 86_400_000.0
    watched: tuple[str, ...] = ("average_precision", "recall_at_half_percent_fpr")


class _State(msgspec.Struct):
    norms: dict[str, float]
    best: dict[str, float]
    best_at_ms: int


class Health:
    """Usual norms and best figures; `causes` compares a candidate with them, and notes it."""

    def __init__(self, rules: HealthRules) -> None:
        """Begin without memory."""
        self._rules = rules
        self._state = _State({}, {}, 0)

    def causes(
        self,
        candidate: Weights,
        figures: Mapping[str, float],
        reference: Mapping[str, float] | None,
        clock_ms: int,
    ) -> dict[str, Cause]:
        """Return what speaks against the candidate: name of the cause → (level, in words)."""
        broken = self._not_finite(candidate)
        if broken:
            return broken
        warm = candidate.labels_learned < self._rules.free_labels
        return self._norms(candidate, warm) | self._fall(figures, reference, clock_ms, warm)

    def dumps(self) -> bytes:
        """Return all that it knows."""
        return msgspec.msgpack.encode(self._state)

    def loads(self, state: bytes) -> None:
        """Go on from a state."""
        self._state = msgspec.msgpack.decode(state, type=_State)

    def _not_finite(self, candidate: Weights) -> dict[str, Cause]:
        found = {}
        for name, array in candidate.arrays.items():
            if name != "probe.x" and array.dtype == np.float32 and not is_finite(array):
                found[f"finite:{name}"] = (np.inf, f"{name} holds a number that is not finite")
        if candidate.metrics.get(ALPHA) == 0.0:
            found["finite:way"] = (np.inf, "no step towards it, however short, is within bounds")
        return found

    def _norms(self, candidate: Weights, warm: bool) -> dict[str, Cause]:
        found = {}
        norms = self._state.norms
        kept: dict[str, float] = {}
        for ref in candidate.members:
            name = f"{ref.lane}.{ref.name}"
            norm = norm_of(candidate, ref.prefix, ref.kind)
            usual = norms.get(name)
            if usual is None or warm:
                kept[name] = norm
                continue
            limit = self._rules.norm_factor * max(usual, NORM_FLOOR)
            if norm > limit:
                found[f"norm:{name}"] = (
                    norm / limit,
                    f"norm of {name} is {norm:.3g}, usual {usual:.3g}, limit {limit:.3g}",
                )
            kept[name] = usual + (min(norm, limit) - usual) / NORM_VERSIONS
        self._state.norms = kept
        return found

    def _fall(
        self,
        figures: Mapping[str, float],
        reference: Mapping[str, float] | None,
        clock_ms: int,
        warm: bool,
    ) -> dict[str, Cause]:
        rules, state = self._rules, self._state
        judged = figures.get("judged", 0.0)
        frauds = judged * figures.get("fraud_rate", 0.0)
        if warm or judged < rules.judged_min or frauds < rules.frauds_min:
            return {}
        seen = {name: figures[name] for name in rules.watched if name in figures}
        passed_ms = max(0, clock_ms - state.best_at_ms) if state.best_at_ms else 0
        fade = 0.5 ** (passed_ms / rules.best_half_life_ms)
        state.best_at_ms = max(clock_ms, state.best_at_ms)
        best = {name: fade * value for name, value in state.best.items()}
        state.best = {name: max(value, best.get(name, 0.0)) for name, value in seen.items()}
        against = reference if reference else state.best
        known = {
            name: (value, against[name]) for name, value in seen.items() if against.get(name, 0) > 0
        }
        fallen = {
            name: (value, was)
            for name, (value, was) in known.items()
            if value < was * (1 - rules.fall)
        }
        if not known or len(fallen) < len(known):
            return {}
        level = min(was / max(value, 1e-9) for value, was in fallen.values())
        whose = "the reference" if reference else "the best of late"
        words = ", ".join(f"{n} {v:.3f} against {was:.3f}" for n, (v, was) in fallen.items())
        return {"figures:all": (level, f"fell below {whose}: {words}")}


def norm_of(weights: Weights, prefix: str, kind: str) -> float:
    """Return the Euclidean norm of all that a member learned; of trees that is what leaves say."""
    arrays = arrays_of(prefix, kind, weights.arrays)
    if kind == "trees":
        arrays = {name: arrays[name] for name in ("value", "bias")}
    total = 0.0
    for array in arrays.values():
        flat = array.reshape(-1)
        total += float(np.dot(flat, flat))
    return float(np.sqrt(total))
