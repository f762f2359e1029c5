"""a batch, a rollout → one Basis in which each event is answered by its arm, and shadows.

The candidate is asked about its own events first. Where it fails, they are the stable arm's, and
the decision says so. A shadow scores what was answered, after that, and only while there is time:
nothing comes of it but its place in the decision.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from api.record import Arms, Basis
from features.event import Event
from models.decision import Outcome, RolloutRef, ShadowScore
from models.rollout_arms import Arm, ArmPicker
from models.scorer import NoWeights, Scorer, Snapshot

SKIPPED: Final = [ShadowScore(state="skipped")]
FAILED: Final = [ShadowScore(state="failed")]
FAULTS: Final = (NoWeights, RuntimeError, ValueError, ArithmeticError)
"""How a version may fail: it is gone, torch or the device fails, its numbers overflow."""
RECENT: Final = 0.2
"""Weight of the newest pass in a shadow's expected time; a skipped one brings it down as much."""

OutcomeOf = Callable[[str, float, float], Outcome]
"""(event type, probability, percentile) → outcome by the policy's bands."""
Answer = Callable[[Sequence[int] | None, Snapshot], Basis]
"""(rows of the batch or all of them, version) → what their answers rest on."""


class NotFinite(ValueError):
    """A version gave a score that is no number."""


class Batch(NamedTuple):
    """Events to answer together.

    Attributes:
        X: Their vectors, shape (m, n_features).
        snapshot: What answers for the stable arm.
        complete: Whether features were read.
        began: When the first wait for them began, by the step's clock.
    """

    X: NDArray[np.float32]
    events: Sequence[Event]
    snapshot: Snapshot
    complete: bool
    began: float


@dataclass(frozen=True, slots=True)
class Running:
    """A rollout at its present step.

    Attributes:
        candidate: Where the candidate's versions are held, or the slot of one.
        slot: Its name.
        shadow: Whether the candidate scores what the stable arm answers.
        full: Whether it answers all; then the stable version is the shadow.
    """

    number: int
    step: int
    picker: ArmPicker
    candidate: Scorer
    slot: str
    shadow: bool
    full: bool = False


class Rollouts:
    """The rollout of the moment, as the step sees it; it is swapped whole between two batches.

    Attributes:
        running: None while nothing is rolled out.
    """

    def __init__(
        self,
        shadow_budget_s: float,
        shadow_until_s: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Take the bounds of shadows.

        Args:
            shadow_budget_s: Time that one pass of a shadow is expected to take at most.
            shadow_until_s: Age of a batch at which no shadow begins any more.
            clock: Monotonic seconds; the step's.
        """
        self.running: Running | None = None
        self._budget_s = shadow_budget_s
        self._until_s = shadow_until_s
        self._clock = clock
        self._expected_s = 0.0

    def answer(self, batch: Batch, outcome_of: OutcomeOf, answer: Answer) -> Basis:
        """Return what the answers to a batch rest on.

        Args:
            batch: The events.
            outcome_of: For shadows.
            answer: Scores and rules some of the events by one version.
        """
        running = self.running
        candidate = None if running is None else _held(running)
        if running is None or candidate is None:  # it takes part once it is there
            return answer(None, batch.snapshot)
        arms = [running.picker.arm_of(event) for event in batch.events]
        if not any(arms):
            return answer(None, batch.snapshot)
        its = [i for i, arm in enumerate(arms) if arm == "candidate"]
        theirs = [i for i, arm in enumerate(arms) if arm != "candidate"]
        parts: list[tuple[list[int], Basis]] = []
        failed: list[int] = []
        if its:
            try:
                parts.append((its, _finite(answer(its, candidate))))
            except FAULTS:
                failed, theirs = its, list(range(len(arms)))
        if theirs:
            rows = None if len(theirs) == len(arms) else theirs
            parts.append((theirs, answer(rows, batch.snapshot)))
        places, refs = _placed(running, arms, parts, failed)
        shadows: list[list[ShadowScore]] = [[] for _ in arms]
        rows, other = [i for i, arm in enumerate(arms) if arm == "stable"], candidate
        if running.full and not failed:
            rows, other = its, batch.snapshot
        if rows and running.shadow:
            self._cast(batch, rows, other, outcome_of, places, shadows)
        base = parts[0][1]
        return dataclasses.replace(base, arms=Arms(places, refs, shadows))

    def _cast(
        self,
        batch: Batch,
        rows: Sequence[int],
        other: Snapshot,
        outcome_of: OutcomeOf,
        places: Sequence[tuple[Basis, int]],
        shadows: list[list[ShadowScore]],
    ) -> None:
        """Let another version score rows that were answered, if there is time."""
        now = self._clock()
        too_late = now + self._expected_s > batch.began + self._until_s
        if not batch.complete or too_late or self._expected_s > self._budget_s:
            self._expected_s *= 1 - RECENT
            for i in rows:
                shadows[i] = SKIPPED
            return
        try:
            with other:
                scores = other.score_many(batch.X[list(rows)])
                weights, sha256 = other.weights, other.sha256
            if not np.isfinite(scores.logit).all():
                raise NotFinite
        except FAULTS:
            for i in rows:
                shadows[i] = FAILED
            return
        took_s = self._clock() - now
        self._expected_s += RECENT * (took_s - self._expected_s)
        for at, i in enumerate(rows):
            basis, place = places[i]
            event_type = batch.events[i].event_type
            assert basis.scores is not None, (
                "the stable arm has a version, or nothing is rolled out"
            )
            p, percentile = float(scores.p[at]), float(scores.percentile[at])
            theirs = float(basis.scores.p[place]), float(basis.scores.percentile[place])
            shadows[i] = [
                ShadowScore(
                    state="scored",
                    model=weights.model,
                    version=weights.version,
                    sha256=sha256,
                    value=p,
                    logit=float(scores.logit[at]),
                    outcome=outcome_of(event_type, p, percentile),
                    beside=outcome_of(event_type, *theirs),
                    pass_ms=round(took_s * 1000, 3),
                )
            ]


def _held(running: Running) -> Snapshot | None:
    """Return the candidate's version; None before the first."""
    try:
        return running.candidate.snapshot(running.slot)
    except NoWeights:
        return None


def _finite(basis: Basis) -> Basis:
    assert basis.scores is not None
    if not np.isfinite(basis.scores.logit).all():
        raise NotFinite("a score is no number")
    return basis


def _placed(
    running: Running,
    arms: Sequence[Arm | None],
    parts: Sequence[tuple[list[int], Basis]],
    failed: Sequence[int],
) -> tuple[list[tuple[Basis, int]], list[RolloutRef | None]]:
    """Return each event's place in the parts, and its part in the rollout."""
    places: list[tuple[Basis, int]] = [(parts[0][1], 0)] * len(arms)
    refs: list[RolloutRef | None] = [None] * len(arms)
    lost = set(failed)
    for rows, basis in parts:
        shared = {
            name: RolloutRef(
                number=running.number, step=running.step, arm=name, pass_ms=basis.pass_ms
            )
            for name in _ARMS
        }
        for place, i in enumerate(rows):
            places[i] = (basis, place)
            arm = arms[i]
            if arm is not None:
                refs[i] = shared["fallback" if i in lost else arm]
    return places, refs


_ARMS: Final[tuple[Literal["stable", "candidate", "fallback"], ...]] = (
    "stable",
    "candidate",
    "fallback",
)
