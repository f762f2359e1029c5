"""an event → the decision that it would get now: scored and explained, and nothing comes of it."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from api.decide import Decider
from api.errors import Overloaded
from api.overlay import Lacking, Overlay
from api.overlay_place import Place
from api.seen import Asked
from features.event import Event
from features.spec import Spec
from features.store import FeatureReader, Reads
from features.update import EntityUpdates
from models.decision import Source
from models.decision_codec import answer_of, encode_decision
from models.policy_ruling import Rulebook, Ruler, Scored
from models.policy_values import Ruling
from models.scorer import Scorer

DRY_RUNS_IN_FLIGHT_MAX: Final = 32
"""They share the scorer's loop with decisions that count, and must not crowd them out."""


class Glance(Overlay):
    """An overlay that is looked at and never added to: the view of somebody else's."""

    def __init__(self, overlay: Overlay) -> None:
        """Take the overlay of those whose decisions count."""
        self._overlay = overlay

    def accept_many(
        self,
        events: Sequence[Event],
        places: Sequence[Place | None],
        updates: EntityUpdates,
        reads: Reads | None,
        partition_of: Mapping[bytes, int],
        now_ms: int,
        keep: bool = False,
    ) -> Lacking:
        """Say what the questions lack, and accept nothing."""
        return self._overlay.accept_many(
            events, places, updates, reads, partition_of, now_ms, keep=False
        )

    def forget(self, name: str) -> None:
        """Do nothing: nothing was accepted."""


class TryingRuler(Ruler):
    """Rules as another ruler does at the moment, explains every outcome, and counts no hits."""

    def __init__(self, spec: Spec, ruler: Ruler) -> None:
        """Take the ruler of decisions that count."""
        super().__init__(spec, _explaining(ruler.book), limited=False)
        self._real = ruler
        self._real_book = ruler.book

    def rule_many(
        self,
        events: Sequence[Event],
        X: NDArray[np.float32] | None,
        scored: Scored | None,
        now_ms: int,
    ) -> list[Ruling]:
        """Rule by what the other one rules by now; see `Ruler`."""
        real = self._real
        if real.book is not self._real_book:
            self._real_book = real.book
            self.use(_explaining(real.book))
        self.lists = real.lists
        self._switches = real._switches
        self._halted = set(real._halted)
        return super().rule_many(events, X, scored, now_ms)


def _explaining(book: Rulebook) -> Rulebook:
    reasons = msgspec.structs.replace(book.policy.reasons, approved_too=True)
    return replace(book, policy=msgspec.structs.replace(book.policy, reasons=reasons))


def dry_decider(
    spec: Spec,
    ruler: Ruler,
    reader: FeatureReader,
    scorer: Scorer,
    overlay: Overlay,
    now_ms: Callable[[], int],
) -> Decider:
    """Return a step like that of decisions that count, on the same weights, states and policy.

    It explains every outcome. No rollout is asked: it counts all that its arms answer.
    """
    return Decider(spec, TryingRuler(spec, ruler), reader, scorer, Glance(overlay), now_ms)


class DryRuns:
    """The step behind `POST /v1/decisions:dry-run`.

    It reads as a decision does, and writes nowhere: not to the log, not to the claims, not to the
    overlay, and to no counter of decisions.
    """

    def __init__(self, decider: Decider, features_timeout_s: float) -> None:
        """Take the step (`dry_decider`), and the longest wait for the features (seconds)."""
        self._decider = decider
        self._features_timeout_s = features_timeout_s
        self._in_flight = 0

    async def answer(self, event: Event, deadline_at: float) -> bytes:
        """Return the body of the answer.

        Args:
            event: What would happen.
            deadline_at: When the answer is worthless, on the clock of `time.perf_counter`.

        Raises:
            Overloaded: `DRY_RUNS_IN_FLIGHT_MAX` are being answered.
        """
        if self._in_flight >= DRY_RUNS_IN_FLIGHT_MAX:
            raise Overloaded(f"{self._in_flight} dry runs are being answered")
        self._in_flight += 1
        try:
            wait_s = min(self._features_timeout_s, max(0.001, deadline_at - time.perf_counter()))
            seen = await self._decider.look([event], wait_s)
            await asyncio.sleep(0)  # let what counts go first
            [record] = self._decider.decide([Asked(event, Source(door="http"))], seen)
        finally:
            self._in_flight -= 1
        return encode_decision(msgspec.structs.replace(answer_of(record), status="dry_run"))
