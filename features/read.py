"""(questions, store) → EntityFeatures: the step behind every reader of features.

1 check the questions · 2 read all their states in one round trip · 3 evaluate each at its own
instant, by the kernel that scores. No event asks here, so what a feature says about the asking
event itself is missing, and features that need its amount are left out.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.entity_features import (
    EntityFeatures,
    FeatureNote,
    FeatureQuestion,
    QuestionRejected,
)
from features.event import entity_key, from_ms, to_ms
from features.spec import EntitySpec, Spec
from features.store import FeatureReader, Reads
from features.window import evaluate_many
from features.window_newest import NO_EVENT_MS, newest_many

STALE_AFTER_S: Final = 5.0
"""An idle worker says twice a second that its partitions are fresh; ten times that is too long."""


class Asked(NamedTuple):
    """A question that was checked.

    Attributes:
        ids: The parts of the entity's key.
        key: Under which its state is kept.
    """

    entity: EntitySpec
    ids: tuple[str, ...]
    tenant: str
    key: bytes
    at_ms: int


class Ratio(NamedTuple):
    """A ratio of two features of one entity: its name, and the columns of both."""

    name: str
    above: int
    below: int


def check_question(spec: Spec, question: FeatureQuestion, now_ms: int) -> Asked:
    """Return a question in the spec's terms.

    Raises:
        QuestionRejected: The spec has no such entity, its key has another number of parts, or the
            instant lies before 1970 or further ahead than an event may.
    """
    entity = next((e for e in spec.entities if e.name == question.entity), None)
    if entity is None:
        known = ", ".join(e.name for e in spec.entities)
        raise QuestionRejected("unknown_entity", "/entity", f"expected one of: {known}")
    ids = (question.id,) if isinstance(question.id, str) else tuple(question.id)
    if len(ids) != len(entity.key):
        raise QuestionRejected(
            "wrong_key",
            "/id",
            f"{entity.name} has the key {' + '.join(entity.key)}; got {len(ids)} ids",
        )
    name = entity.id_of(dict(zip(entity.key, ids, strict=True)))
    assert name is not None
    at_ms = now_ms if question.at is None else to_ms(question.at)
    if at_ms < 0:
        raise QuestionRejected("time_out_of_range", "/at", "lies before 1970")
    if at_ms > now_ms + spec.limits.max_future_skew_ms:
        skew_s = spec.limits.max_future_skew_ms / 1000
        raise QuestionRejected("time_in_future", "/at", f"lies more than {skew_s:g} s ahead")
    key = entity_key(question.tenant, entity.name, name)
    return Asked(entity, ids, question.tenant, key, at_ms)


async def read_features(
    spec: Spec,
    store: FeatureReader,
    asked: Sequence[Asked],
    now_ms: int,
    *,
    stale_after_s: float = STALE_AFTER_S,
    explain: bool = False,
) -> list[EntityFeatures]:
    """Read the states of all questions in one round trip, and answer each, in order.

    Args:
        spec: What the states mean.
        store: Where they are.
        asked: At least one, from `check_question`.
        now_ms: Wall clock, against which freshness is told.
        stale_after_s: A state that is older is called stale.
        explain: Whether the answers say what their values mean.

    Raises:
        StoreError: No answer, or the store is of another spec.
        SchemaMismatch: A state is of another spec, format or entity.
        StateCorrupt: A state's bytes make no sense.
    """
    keys = list(dict.fromkeys(one.key for one in asked))
    reads = await store.read_many(keys)
    place = {key: i for i, key in enumerate(keys)}
    answers: dict[int, EntityFeatures] = {}
    for entity in spec.entities:
        chosen = [i for i, one in enumerate(asked) if one.entity is entity]
        if not chosen:
            continue
        blobs = [reads.blobs[place[asked[i].key]] for i in chosen]
        at_ms = np.array([asked[i].at_ms for i in chosen], dtype=np.int64)
        nobody = np.zeros(len(chosen), dtype=np.uint64)
        X, late = evaluate_many(spec, entity.index, blobs, at_ms, nobody)
        named = _named(spec, entity, X)
        newest = newest_many(spec, entity.index, blobs).tolist()
        notes = _notes(spec, entity.index) if explain else None
        for row, i in enumerate(chosen):
            owner = reads.partition[place[asked[i].key]]
            freshness = _freshness(reads, owner, now_ms, stale_after_s)
            answers[i] = _answer(
                spec, asked[i], bool(blobs[row]), named[row], bool(late[row]), newest[row],
                freshness, notes,
            )  # fmt: skip
    return [answers[i] for i in range(len(asked))]


def warm_up_reads(spec: Spec) -> None:
    """Compile what only readers call, so that none of them waits for it later."""
    newest_many(spec, 0, [b""])


def feature_names_of(spec: Spec, entity: EntitySpec) -> tuple[str, ...]:
    """Return the features that a reader of this entity is told, in order.

    They are the entity's own, then the ratios of two of them.
    """
    ratios = _ratios(spec, entity.index)
    return entity.feature_names + tuple(ratio.name for ratio in ratios)


@lru_cache(maxsize=64)
def _ratios(spec: Spec, index: int) -> tuple[Ratio, ...]:
    column = {name: i for i, name in enumerate(spec.entities[index].feature_names)}
    return tuple(
        Ratio(term.name, column[term.inputs[0]], column[term.inputs[1]])
        for term in spec.event_terms
        if term.kind == "ratio" and all(name in column for name in term.inputs)
    )


@lru_cache(maxsize=64)
def _notes(spec: Spec, index: int) -> Mapping[str, FeatureNote]:
    infos = [spec.describe(name) for name in feature_names_of(spec, spec.entities[index])]
    return {
        info.name: FeatureNote(type=info.type, unit=info.unit, bound=info.bound, text=info.text)
        for info in infos
    }


def _named(spec: Spec, entity: EntitySpec, X: NDArray[np.float64]) -> list[dict[str, float | None]]:
    """Return rows of features by name, with the entity's ratios; None is missing."""
    ratios = _ratios(spec, entity.index)
    names = feature_names_of(spec, entity)
    rows: list[dict[str, float | None]] = []
    for x in X.tolist():
        x += [_divide(x[ratio.above], x[ratio.below]) for ratio in ratios]
        values = [None if math.isnan(value) else value for value in x]
        rows.append(dict(zip(names, values, strict=True)))
    return rows


def _divide(above: float, below: float) -> float:
    return math.nan if below == 0 else above / below


class _Freshness(NamedTuple):
    until_ms: int | None
    staleness_ms: int | None
    stale: bool


def _freshness(reads: Reads, owner: int, now_ms: int, stale_after_s: float) -> _Freshness:
    until_ms = reads.fresh_until_ms.get(owner, 0)
    if until_ms <= 0:  # nobody has ever written this partition
        return _Freshness(None, None, True)
    staleness_ms = max(0, now_ms - until_ms)
    return _Freshness(until_ms, staleness_ms, staleness_ms > stale_after_s * 1000)


def _answer(
    spec: Spec,
    asked: Asked,
    known: bool,
    features: dict[str, float | None],
    late: bool,
    newest_ms: int,
    freshness: _Freshness,
    notes: Mapping[str, FeatureNote] | None,
) -> EntityFeatures:
    until_ms = freshness.until_ms
    return EntityFeatures(
        entity=asked.entity.name,
        id=asked.ids[0] if len(asked.ids) == 1 else list(asked.ids),
        tenant=asked.tenant,
        at=from_ms(asked.at_ms),
        state="known" if known else "unknown",
        newest_event_at=None if newest_ms == NO_EVENT_MS else from_ms(newest_ms),
        features=features,
        missing=[name for name, value in features.items() if value is None],
        late_question=late,
        fresh_until=None if until_ms is None else from_ms(until_ms),
        staleness_ms=freshness.staleness_ms,
        stale=freshness.stale,
        spec_digest=spec.digest,
        notes=None if notes is None else dict(notes),
    )
