"""decisions, judged rows, labels, candidates → how fast to learn, and whether to publish.

Learning never stops for anything that is found here. Drift quickens it for a while; a cause from
the self-checks freezes publishing until an operator thaws it (`riskbeat model thaw`).

After a thaw the causes that stood then are acknowledged: they do not freeze again until they were
gone once, or have grown to `WORSE` times what they were. A number that is not finite cannot be
acknowledged.
"""

from collections.abc import Mapping

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.drift import BlockState, DetectorFactory, DriftFound, Watched
from models.guard_rules import Gauges, GuardEvent, GuardRules, bounded_logit
from models.health import KINDS, Cause, Health
from models.label_rates import LabelRates
from models.learner import Space
from models.psi import Psi
from models.weights import Weights

SCORES = "scores"
LANES = ("feedback", "delayed")
SCORES_KEPT = 4_096
"""Newest scores: their upper percentile is what counts as an alert."""
EVENTS_MAX = 256
"""Facts kept until the process asks for them; the oldest leave."""
WORSE = 1.5
PSI_TOLD_MAX = 5
"""Features named in one line of the log."""
PSI_LARGE = 0.25
"""Source: Siddiqi, Credit Risk Scorecards, 2006: above it a population has changed."""


class _State(msgspec.Struct):
    watched: dict[str, BlockState]
    rows: int = 0
    clock_ms: int = 0
    drift_ms: int | None = None
    causes: dict[str, float] = {}
    acknowledged: dict[str, float] = {}
    asked: bool = False
    confirmed: bool = False
    rates: bytes = b""
    health: bytes = b""


class Guard:
    """Watches one learner; a function of the calls made to it, bounded in memory."""

    def __init__(self, rules: GuardRules, space: Space, make_detector: DetectorFactory) -> None:
        """Begin without memory.

        Args:
            rules: What it is told.
            space: Names of the features.
            make_detector: Level of significance → a new detector (`drift_river.Adwin`).
        """
        self._rules = rules
        self._space = space
        self._make_detector = make_detector
        self._events: list[GuardEvent] = []
        self._state: _State
        self._psi: Psi
        self._rates: LabelRates
        self._health: Health
        self._watched: dict[str, Watched]
        self._scores: NDArray[np.float64]
        self._noted_norms: bool
        self._standing: set[str]
        self._reset()

    def observe_decided(
        self, X: NDArray[np.float32], p: NDArray[np.float64], at_ms: NDArray[np.int64]
    ) -> None:
        """See decided vectors, shape (m, n), their probabilities (NaN: none) and event times."""
        if not len(X):
            return
        state = self._state
        state.rows += len(X)
        state.clock_ms = max(state.clock_ms, int(at_ms.max()))
        if self._psi.observe(X, at_ms):
            self._say_psi()
        known = p[~np.isnan(p)]
        if len(known):
            newest = known[-SCORES_KEPT:]
            self._scores = np.concatenate([self._scores, newest])[-SCORES_KEPT:]
            self._watch(SCORES, bounded_logit(known).tolist())

    def observe_judged(
        self, lane: str, y: NDArray[np.uint8], p: NDArray[np.float64], at_ms: NDArray[np.int64]
    ) -> None:
        """See what became of predictions of a lane; those among the highest scores are alerts."""
        if not len(y):
            return
        self._state.clock_ms = max(self._state.clock_ms, int(at_ms.max()))
        alerts = y[p >= self.alert_p]
        if len(alerts):
            self._watch(f"precision.{lane}", alerts.astype(np.float64).tolist())

    def observe_labels(
        self, counts: Mapping[str, int], frauds: Mapping[str, int], clock_ms: int
    ) -> None:
        """See labels that came in, and frauds among them, by source."""
        self._state.clock_ms = max(self._state.clock_ms, clock_ms)
        self._rates.observe(counts, frauds, self._state.clock_ms)

    @property
    def alert_p(self) -> float:
        """Score from which a prediction counts as an alert."""
        if not len(self._scores):
            return float("inf")
        return float(np.quantile(self._scores, 1 - self._rules.alert_share))

    def reaction(self, clock_ms: int) -> float:
        """Return the learning pace at an event time: 1 as usual, more after drift, wearing off."""
        state, rules = self._state, self._rules
        if state.drift_ms is None:
            return 1.0
        age_ms = max(0, clock_ms - state.drift_ms)
        return float(1.0 + (rules.drift_pace - 1.0) * 0.5 ** (age_ms / rules.drift_half_life_ms))

    def hear_frozen(self, frozen: bool) -> None:
        """Hear whether the registry is frozen; call it before `inspect`.

        A freeze that this guard asked for, that stood, and that does not stand now was thawed by
        an operator: the causes of then are acknowledged.
        """
        state = self._state
        if frozen:
            state.confirmed = state.asked
        elif state.confirmed:
            state.acknowledged |= state.causes
            state.asked = state.confirmed = False
            for name in sorted(state.causes):
                self._say("publishing.acknowledged", cause=name)

    def inspect(
        self,
        candidate: Weights,
        previous: Weights | None,
        figures: Mapping[str, float],
        reference: Mapping[str, float] | None,
    ) -> list[str]:
        """Return reasons to freeze publishing, each "<cause>: <in words>"; none: healthy.

        Args:
            candidate: What the learner would publish, before its step is bounded.
            previous: What was published last; its members tell usual norms when no memory does.
            figures: Progressive, delay-aware evaluation of now.
            reference: The same of a version that was pinned or blessed by hand; None compares
                with the best of late.
        """
        state = self._state
        if previous is not None and not self._noted_norms:
            self._health.causes(previous, {}, None, state.clock_ms)
        self._noted_norms = True
        found: dict[str, Cause] = self._health.causes(candidate, figures, reference, state.clock_ms)
        found |= self._rates.causes()
        state.acknowledged = {n: level for n, level in state.acknowledged.items() if n in found}
        state.causes = {
            name: level for name, (level, _) in found.items() if not name.startswith("finite:")
        }
        open_causes = {
            name: f"{name.replace(':', ' ')}: {words}"
            for name, (level, words) in found.items()
            if level > WORSE * state.acknowledged.get(name, 0.0)
        }
        self._standing = {name.partition(":")[0] for name in open_causes}
        state.asked = state.asked or bool(open_causes)
        return [open_causes[name] for name in sorted(open_causes)]

    def figures(self) -> dict[str, float]:
        """Return what a version's metrics say of drift."""
        found = sum(watched.found for watched in self._watched.values())
        figures = {"drift_pace": self.reaction(self._state.clock_ms), "drifts": float(found)}
        known = self._changed()
        if not np.isnan(known).all():
            figures["psi_max"] = float(np.nanmax(known))
        return figures

    def gauges(self) -> Gauges:
        """Return what the learner's metrics page shows."""
        return Gauges(
            psi=dict(zip(self._space.names, self._psi.values.tolist(), strict=True)),
            drifts={name: watched.found for name, watched in self._watched.items()},
            means={name: watched.mean for name, watched in self._watched.items()},
            widths={name: watched.width for name, watched in self._watched.items()},
            pace=self.reaction(self._state.clock_ms),
            causes={kind: kind in self._standing for kind in KINDS},
        )

    def take_events(self) -> list[GuardEvent]:
        """Return facts for the log since the last call."""
        events, self._events = self._events, []
        return events

    def state_changes(self) -> dict[str, bytes]:
        """Return the named parts of the state that changed since the last call."""
        state = self._state
        state.watched = {name: watched.state() for name, watched in self._watched.items()}
        state.rates, state.health = self._rates.dumps(), self._health.dumps()
        parts = {f"psi/{name}": body for name, body in self._psi.state_changes().items()}
        return parts | {"core": msgspec.msgpack.encode(state), "scores": self._scores.tobytes()}

    def restore(self, parts: Mapping[str, bytes]) -> None:
        """Become the guard whose parts these are; no parts: a new one.

        Raises:
            StateMismatch: Its detectors are another build's.
        """
        self._reset()
        self._scores = np.frombuffer(parts.get("scores", b""), np.float64)
        self._psi.restore(
            {n.removeprefix("psi/"): body for n, body in parts.items() if n.startswith("psi/")}
        )
        if "core" not in parts:
            return
        self._state = state = msgspec.msgpack.decode(parts["core"], type=_State)
        self._noted_norms = True
        self._rates.loads(state.rates)
        self._health.loads(state.health)
        for name, held in state.watched.items():
            self._watched[name].restore(held)

    def _reset(self) -> None:
        rules = self._rules
        self._state = _State({})
        self._noted_norms = False
        self._standing = set()
        self._scores = np.zeros(0)
        self._psi = Psi(self._space.n)
        self._rates, self._health = LabelRates(rules.rates), Health(rules.health)
        blocks = {SCORES: rules.score_block_rows} | {f"precision.{lane}": 1 for lane in LANES}
        self._watched = {
            name: Watched(self._make_detector(rules.significance), rows)
            for name, rows in blocks.items()
        }

    def _watch(self, name: str, values: list[float]) -> None:
        findings = self._watched[name].update_many(values)
        if findings and self._state.rows >= self._rules.drift_after_rows:
            self._react(name, findings[-1])

    def _react(self, name: str, finding: DriftFound) -> None:
        self._state.drift_ms = self._state.clock_ms
        self._say(
            "drift.found",
            where=name,
            before=round(finding.before, 4),
            after=round(finding.after, 4),
            pace=self._rules.drift_pace,
        )

    def _changed(self) -> NDArray[np.float64]:
        """Return the PSI of each feature, NaN where it is not known or means nothing."""
        values = self._psi.values.copy()
        values[list(self._space.calendar)] = np.nan
        return values

    def _say_psi(self) -> None:
        """Tell of the features that changed most, one line for a day."""
        values = self._changed()
        large = np.flatnonzero(values >= PSI_LARGE)
        if len(large):
            worst = large[np.argsort(-values[large], kind="stable")][:PSI_TOLD_MAX]
            told = ", ".join(f"{self._space.names[i]} {values[i]:.2f}" for i in worst)
            self._say("drift.found", where="features", features=len(large), worst=told)

    def _say(self, name: str, **fields: float | int | str) -> None:
        self._events = [*self._events[-EVENTS_MAX + 1 :], GuardEvent(name, fields)]
