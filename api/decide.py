"""events → DecisionRecords: stations 3, 6 and 7 as one step, for both doors.

One round trip reads the state of every entity of the batch; what this process accepted in the
last seconds is applied on top, then each event itself; one snapshot scores all of them.
Nothing here waits but the read, and nothing after the read can be interleaved with another batch.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.breaker import Breaker, Breakers, ask_model
from api.missing import MissingNames
from api.overlay import Overlay
from api.record import Basis, Facts, Looked, Recorder
from api.rollout import Batch, Rollouts
from api.seen import Asked, Seen, applied_by_event, own_rows_of, place_of
from features.event import Event, identity_of
from features.spec import Spec
from features.store import FeatureReader, Reads, StoreError
from features.update import updates_of_events
from features.vector import Derived, derive_many, derive_rows_many
from features.window import SchemaMismatch, StateCorrupt
from models.decision import DecisionRecord, Degraded, Outcome, Reason
from models.decision_codec import encode_vectors
from models.policy_ruling import Ruler, Scored
from models.reasons import Explaining
from models.scorer import NoWeights, Scorer, Snapshot


class _Vectors(NamedTuple):
    """Vectors, what was applied on top of the states read, and whether states were read."""

    derived: Derived
    overlay: list[list[str]]
    unplaced: list[list[str]]
    complete: bool


class Decider:
    """The step. Holds ports and values; the overlay is its only state."""

    def __init__(
        self,
        spec: Spec,
        ruler: Ruler,
        reader: FeatureReader,
        scorer: Scorer,
        overlay: Overlay,
        now_ms: Callable[[], int],
        clock: Callable[[], float] = time.perf_counter,
        rollouts: Rollouts | None = None,
    ) -> None:
        """Take what it decides by.

        Args:
            spec: What a vector means.
            ruler: What a score leads to, by the policy of the moment.
            reader: States of entities.
            scorer: Weights.
            overlay: This process's own recent events, shared by its doors.
            now_ms: Wall clock, milliseconds since 1970.
            clock: Monotonic seconds, for the answer's timings.
            rollouts: What candidates answer; none without.
        """
        self._spec = spec
        self._explaining = Explaining(spec)
        self._ruler = ruler
        self._reader = reader
        self._scorer = scorer
        self.overlay = overlay
        self._now_ms = now_ms
        self._clock = clock
        self._rollouts = rollouts
        self._missing = MissingNames(spec.feature_names)
        self.read_failure = ""

    async def decide_many(
        self, asked: Sequence[Asked], features_timeout_s: float
    ) -> list[DecisionRecord]:
        """Decide a batch, in order; each event sees those before it.

        Args:
            asked: The events, at least one.
            features_timeout_s: Longest wait for the store; after it the answers are degraded.
        """
        seen = await self.look([one.event for one in asked], features_timeout_s)
        return self.decide(asked, seen)

    async def look(
        self, events: Sequence[Event], features_timeout_s: float, breaker: Breaker | None = None
    ) -> Seen:
        """Read the states of all entities of the events in one round trip.

        Args:
            events: What will be decided.
            features_timeout_s: Longest wait for the store.
            breaker: Says whether the store is asked at all; always without one.
        """
        began = self._clock()
        updates = updates_of_events(self._spec, events)
        if breaker is not None and not breaker.allows():
            return Seen(updates, None, {}, {}, began, self._clock() - began)
        keys = list(dict.fromkeys(updates.keys))
        try:
            async with asyncio.timeout(features_timeout_s):
                reads = await self._reader.read_many(keys)
        except (TimeoutError, StoreError) as error:
            self.read_failure = str(error) or f"no answer within {features_timeout_s:g} s"
            if breaker is not None:
                breaker.failed("timeout" if isinstance(error, TimeoutError) else "unavailable")
            return Seen(updates, None, {}, {}, began, self._clock() - began)
        self.read_failure = ""
        if breaker is not None:
            breaker.succeeded()
        owner = dict(zip(keys, reads.partition, strict=True))
        blob = dict(zip(keys, reads.blobs, strict=True))
        return Seen(updates, reads, owner, blob, began, self._clock() - began)

    def rehearse(self, asked: Sequence[Asked]) -> None:
        """Go through the whole step once on empty states, and forget the events again."""
        updates = updates_of_events(self._spec, [one.event for one in asked])
        owner, blob = dict.fromkeys(updates.keys, 0), dict.fromkeys(updates.keys, b"")
        reads = Reads([], [], {}, {})
        self.decide(asked, Seen(updates, reads, owner, blob, self._clock(), 0.0))
        for one in asked:
            self.overlay.forget(identity_of(one.event))

    def remake(
        self,
        X: NDArray[np.float32],
        events: Sequence[Event],
        snapshot: Snapshot,
        complete: bool,
        now_ms: int,
    ) -> Basis:
        """Answer for given vectors with a given version; nothing is read, accepted or kept."""
        return self._basis_of(X, events, snapshot, complete, now_ms)

    def decide(
        self,
        asked: Sequence[Asked],
        seen: Seen,
        claimed: bool = True,
        breakers: Breakers | None = None,
    ) -> list[DecisionRecord]:
        """Decide a batch on what was seen for exactly these events.

        Args:
            asked: The events, in order.
            seen: What `look` returned for them.
            claimed: Whether repeats could be told; if not, the answers say so.
            breakers: Whether the model is asked; always without them.
        """
        now_ms = self._now_ms()
        events = [one.event for one in asked]
        derive_began = self._clock()
        vectors = self._derive(asked, seen, now_ms)
        X, complete = vectors.derived.X, vectors.complete
        model_began = self._clock()
        degraded: list[Degraded] = [] if complete else ["features"]

        def believe(version: Snapshot | None) -> Basis:
            return self._basis(X, events, version, complete, now_ms, seen.began)

        basis: Basis | None = None
        with contextlib.suppress(NoWeights):
            snapshot = self._scorer.snapshot()
            basis = ask_model(breakers, lambda: believe(snapshot))
        if basis is None:
            degraded.append("model")
            basis = believe(None)
        if not claimed:
            degraded.append("idempotency")
        done = self._clock()
        facts = Facts(
            spec_digest=self._spec.digest,
            book=self._ruler.book,
            basis=basis,
            reads=seen.reads if complete else None,
            degraded=degraded,
            build=self._scorer.build,
            device=self._scorer.device,
            now_ms=now_ms,
            features_ms=round((seen.took_s + model_began - derive_began) * 1000, 3),
            model_ms=round((done - model_began) * 1000, 3),
            total_ms=round((done - seen.began) * 1000, 3),
        )
        recorder, vectors64 = Recorder(facts), encode_vectors(X)
        applied = applied_by_event(seen if complete else None, len(asked))
        missing = self._missing.of_many(X)
        late = vectors.derived.late_question.tolist()
        return [
            recorder.record_of(
                index,
                one.event,
                one.source,
                vectors64[index],
                Looked(
                    late[index],
                    missing[index],
                    *applied[index],
                    vectors.overlay[index],
                    vectors.unplaced[index],
                ),
            )
            for index, one in enumerate(asked)
        ]

    def _derive(self, asked: Sequence[Asked], seen: Seen, now_ms: int) -> "_Vectors":
        """Accept the events, and return their vectors."""
        events = [one.event for one in asked]
        places = [place_of(one.source) for one in asked]
        reads, updates = seen.reads, seen.updates
        lacking = self.overlay.accept_many(events, places, updates, reads, seen.owner, now_ms)
        if reads is not None:
            blobs = [seen.blob[key] for key in updates.keys]
            mine = own_rows_of(seen, places)
            try:
                derived = derive_rows_many(
                    self._spec, events, updates, blobs, lacking.updates, mine
                )
            except (SchemaMismatch, StateCorrupt) as error:
                self.read_failure = str(error)
            else:
                return _Vectors(derived, lacking.names, lacking.unplaced, True)
        hollow = [msgspec.structs.replace(event, entities={}) for event in events]
        derived = derive_many(self._spec, hollow, [{} for _ in events], None, updates.take([]))
        nothing: list[list[str]] = [[] for _ in events]
        return _Vectors(derived, nothing, nothing, False)

    def _basis(
        self,
        X: NDArray[np.float32],
        events: Sequence[Event],
        snapshot: Snapshot | None,
        complete: bool,
        now_ms: int,
        began: float,
    ) -> Basis:
        """Score, rule and explain; where a rollout runs, each arm by its own version."""
        if snapshot is None:
            seen = X if complete else None
            rulings = self._ruler.rule_many(events, seen, None, now_ms)
            return Basis(None, "", None, rulings, [[] for _ in events])

        def answer(rows: Sequence[int] | None, version: Snapshot) -> Basis:
            if rows is None:
                return self._basis_of(X, events, version, complete, now_ms)
            some = [events[i] for i in rows]
            return self._basis_of(X[rows], some, version, complete, now_ms)

        if self._rollouts is None or self._rollouts.running is None:
            return answer(None, snapshot)
        asked = Batch(X, events, snapshot, complete, began)
        return self._rollouts.answer(asked, self._ruler.book.policy.outcome_of, answer)

    def _basis_of(
        self,
        X: NDArray[np.float32],
        events: Sequence[Event],
        snapshot: Snapshot,
        complete: bool,
        now_ms: int,
    ) -> Basis:
        """Do so with one version; incomplete vectors leave it to the policy."""
        with snapshot:
            began = self._clock()
            scores = snapshot.score_many(X)
            pass_ms = round((self._clock() - began) * 1000, 3)
            scored = Scored(scores.p.tolist(), scores.percentile.tolist())
            seen = X if complete else None
            rulings = self._ruler.rule_many(events, seen, scored, now_ms)
            reasons = self._reasons(X, events, [r.would_be or r.outcome for r in rulings], snapshot)
            return Basis(snapshot.weights, snapshot.sha256, scores, rulings, reasons, pass_ms)

    def _reasons(
        self,
        X: NDArray[np.float32],
        events: Sequence[Event],
        outcomes: Sequence[Outcome],
        snapshot: Snapshot,
    ) -> list[list[Reason]]:
        policy = self._ruler.book.policy
        chosen = [i for i, outcome in enumerate(outcomes) if policy.explains(outcome)]
        reasons: list[list[Reason]] = [[] for _ in outcomes]
        if chosen:
            whose, at_most = [events[i] for i in chosen], policy.reasons.at_most
            found = self._explaining.explain_many(snapshot, X[chosen], whose, at_most)
            for index, why in zip(chosen, found, strict=True):
                reasons[index] = why
        return reasons
