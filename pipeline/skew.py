"""decisions, a log → SkewReport: were vectors made as their decisions say, and how stale were they.

Two questions to each decision: does the log, at the watermarks and with the overlay that it names,
give the very vector that was scored (else there is a defect); and what would a store have said that
had everything in it that the log had taken by then (the difference is staleness, and no defect).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.event import identity_of, partition_of
from features.spec import Spec
from features.store import Source
from features.update import updates_of_events
from models.decision import DecisionRecord
from models.decision_codec import decode_vector
from pipeline.skew_index import LogIndex
from pipeline.skew_recompute import Marks, Question, recompute

DEFECTS_SHOWN: Final = 5
OTHER_SPEC: Final = "made under another feature spec"
LOG_BEGINS_LATER: Final = "the log no longer holds what their states were made of"
LOG_ENDS_BEFORE: Final = "the log ends before what they had applied"
OVERLAY_UNKNOWN: Final = "an overlaid event is not in the log"
NO_FEATURES: Final = "answered without features (nothing to compare)"


@dataclass(frozen=True, slots=True)
class FeatureSkew:
    """How one feature of two sets of vectors differs.

    Attributes:
        unequal: Count of vectors in which it is not bit for bit the same.
        share: Of the vectors compared.
        largest: Largest absolute difference where both have a value; 0 without any.
        mean: Mean absolute difference over all vectors in which both have a value.
        missing: Count of vectors in which one has a value and the other has none.
    """

    name: str
    unequal: int
    share: float
    largest: float
    mean: float
    missing: int


@dataclass(frozen=True, slots=True, eq=False)
class SkewReport:
    """What a comparison found.

    Attributes:
        decisions: Decisions looked at.
        compared: Those whose vectors were made again.
        left_out: Why the others were not, with counts.
        remade: Logged against made again, for each feature; anything unequal is a defect.
        defects: Decision ids of the first vectors that are not what they should be.
        defective: Count of them.
        fresh: Logged against what a perfectly fresh store would have said, for each feature.
        stale: Count of vectors that differ from those of a fresh store.
        staleness_ms: int64: of every decision that knows it, ascending.
    """

    decisions: int
    compared: int
    left_out: Mapping[str, int]
    remade: Sequence[FeatureSkew]
    defects: Sequence[str]
    defective: int
    fresh: Sequence[FeatureSkew]
    stale: int
    staleness_ms: NDArray[np.int64]

    def staleness_at(self, share: float) -> float:
        """Return a quantile of staleness in milliseconds; NaN when no decision knows it."""
        return float(np.quantile(self.staleness_ms, share)) if len(self.staleness_ms) else np.nan


def compare(
    spec: Spec, index: LogIndex, partitions: int, decisions: Sequence[DecisionRecord]
) -> SkewReport:
    """Hold decisions against a log.

    Args:
        spec: The one under which they were made; others are left out.
        index: The log.
        partitions: Count of updates partitions of the store.
        decisions: In any order; of several on one event each is looked at.
    """
    complete_ms = complete_from_ms(spec, index)
    left_out: Counter[str] = Counter()
    kept: list[DecisionRecord] = []
    for record in decisions:
        reason = unfit(spec, index, record, complete_ms)
        if reason is None:
            kept.append(record)
        else:
            left_out[reason] += 1
    logged = np.array([decode_vector(record.vector) for record in kept], np.float32)
    logged = logged.reshape(len(kept), spec.n_features)
    named = recompute(spec, index, [as_named(spec, index, partitions, r) for r in kept])
    fresh = recompute(spec, index, [_as_fresh(spec, index, r) for r in kept])
    unlike = np.flatnonzero(~same(logged, named).all(axis=1))
    known = [r.features.staleness_ms for r in decisions if r.features.staleness_ms is not None]
    return SkewReport(
        decisions=len(decisions),
        compared=len(kept),
        left_out=dict(left_out),
        remade=_by_feature(spec, logged, named),
        defects=[kept[i].decision_id for i in unlike[:DEFECTS_SHOWN].tolist()],
        defective=len(unlike),
        fresh=_by_feature(spec, logged, fresh),
        stale=int(np.count_nonzero(~same(logged, fresh).all(axis=1))),
        staleness_ms=np.sort(np.array(known, np.int64)),
    )


def unfit(spec: Spec, index: LogIndex, record: DecisionRecord, complete_ms: int) -> str | None:
    """Return why a decision's vector cannot be made again; None if it can."""
    if record.spec_digest != spec.digest:
        return OTHER_SPEC
    if "features" in record.degraded:
        return NO_FEATURES
    if record.event.event_time_ms < complete_ms:
        return LOG_BEGINS_LATER
    for applied in record.applied.values():
        for source, offsets in (("e", applied.e), ("l", applied.l)):
            for partition, offset in enumerate(offsets):
                if offset > _end(index, "e" if source == "e" else "l", partition):
                    return LOG_ENDS_BEFORE
    if any(name not in index.events for name in record.overlay):
        return OVERLAY_UNKNOWN
    return None


def _end(index: LogIndex, source: Source, partition: int) -> int:
    stream = index.streams.get((source, partition))
    return int(stream.offsets[-1]) + 1 if stream is not None and len(stream.offsets) else 0


def complete_from_ms(spec: Spec, index: LogIndex) -> int:
    """Return from which event time on no state can hold what the log has dropped."""
    cut = [s.first_ms for s in index.streams.values() if len(s.offsets) and s.offsets[0] > 0]
    return max(cut) + spec.ttl_s * 1000 if cut else 0


def as_named(spec: Spec, index: LogIndex, partitions: int, record: DecisionRecord) -> Question:
    """Return the question with the states that the decision names."""
    event, source = record.event, record.source
    keys = updates_of_events(spec, [event]).keys
    marks: dict[bytes, Marks] = {}
    for key in keys:
        applied = record.applied.get(str(partition_of(key, partitions)))
        marks[key] = {"e": applied.e, "l": applied.l} if applied is not None else {}
    place = None
    if source.partition is not None and source.offset is not None:
        place = (source.partition, source.offset)
    own = frozenset(key for key in keys if place is None or not _in(marks[key], *place))
    overlay, unplaced = [], frozenset(record.unplaced)
    for name in record.overlay:
        known = index.events[name]
        overlay += [
            row
            for row in known.rows
            if (key := index.rows.keys[row]) in marks
            and (name in unplaced or not _in(marks[key], known.partition, known.offset))
        ]
    return Question(event, marks, own, overlay)


def _as_fresh(spec: Spec, index: LogIndex, record: DecisionRecord) -> Question:
    """Return the question with all that the log had taken when the decision was made."""
    keys = updates_of_events(spec, [record.event]).keys
    fresh: Marks = index.marks_at(record.decided_at_ms)
    known = index.events.get(identity_of(record.event))
    there: set[bytes] = set()
    if known is not None and _in(fresh, known.partition, known.offset):
        there = {index.rows.keys[row] for row in known.rows if index.counted[row]}
    return Question(record.event, dict.fromkeys(keys, fresh), frozenset(keys) - there)


def _in(marks: Marks, partition: int, offset: int) -> bool:
    offsets = marks.get("e", ())
    return partition < len(offsets) and offset < offsets[partition]


def same(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where two sets of vectors are bit for bit the same, any NaN being missing."""
    equal: NDArray[np.bool_] = (a.view(np.uint32) == b.view(np.uint32)) | (
        np.isnan(a) & np.isnan(b)
    )
    return equal


def _by_feature(
    spec: Spec, logged: NDArray[np.float32], other: NDArray[np.float32]
) -> list[FeatureSkew]:
    unequal = np.count_nonzero(~same(logged, other), axis=0)
    missing = np.count_nonzero(np.isnan(logged) != np.isnan(other), axis=0)
    both = np.isfinite(logged) & np.isfinite(other)
    apart = np.abs(
        np.where(both, logged, 0).astype(np.float64) - np.where(both, other, 0).astype(np.float64)
    )
    valued = np.maximum(np.count_nonzero(both, axis=0), 1)
    largest = apart.max(axis=0, initial=0.0)
    return [
        FeatureSkew(
            name,
            int(unequal[i]),
            float(unequal[i]) / max(len(logged), 1),
            float(largest[i]),
            float(apart[:, i].sum() / valued[i]),
            int(missing[i]),
        )
        for i, name in enumerate(spec.feature_names)
    ]
