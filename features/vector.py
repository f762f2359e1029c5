"""states, events → vectors: what the model sees of each event at its own time.

One pass of the kernel for a whole batch, the terms that are made from an event and its features
(`features.window_terms`) with it. Missing is NaN, never 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from features.event import Event, identity_hash, identity_of
from features.spec import Spec
from features.update import (
    EntityUpdates,
    base_value,
    category_index,
    concat_updates,
    updates_of_events,
)
from features.window import derive_into
from features.window_terms import add_terms_many, terms_of

NO_TIME_MS = -1

_Keyed: TypeAlias = tuple[str, int, Callable[[Mapping[str, str]], str | None] | None]


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """The vectors of a batch.

    Attributes:
        X: float32, shape (m, n_features), in the spec's vector order; NaN is missing.
        late_question: bool, shape (m,): True where some state could not answer in full for so
            old a time (`features.window.evaluate_many`).
    """

    X: NDArray[np.float32]
    late_question: NDArray[np.bool_]


def derive_many(
    spec: Spec,
    events: Sequence[Event],
    states: Sequence[Mapping[str, bytes]],
    overlay: EntityUpdates | None = None,
    own: EntityUpdates | None = None,
) -> Derived:
    """Return the vectors of events, each with itself applied to copies of its entities' states.

    Args:
        spec: What the states mean.
        events: m events; an entity that the spec does not declare is left out.
        states: For each event, entity name → state; an absent name or `b""` is one never seen.
        overlay: Further rows to apply; `row_event` says to which event's copies.
        own: `updates_of_events(spec, events)`, if the caller has it, less those rows that the
            states are known to hold already. A row that a state's head holds does no harm; one
            that has left the head would count twice.

    Raises:
        SchemaMismatch: A state is of another spec, format or entity.
        StateCorrupt: A state's bytes make no sense.
    """
    assert len(events) == len(states)
    if own is None:
        own = updates_of_events(spec, events)
    rows = own if overlay is None or not len(overlay) else concat_updates([own, overlay])
    m = len(events)
    blobs: list[bytes] = []
    slots: list[int] = []
    mine: list[float] = []
    at_ms = np.empty(m, dtype=np.int64)
    ids = np.empty(m, dtype=np.uint64)
    names, categories = _plan_of(spec)
    for i, (event, state) in enumerate(zip(events, states, strict=True)):
        at_ms[i] = event.event_time_ms
        ids[i] = identity_hash(identity_of(event))
        entities = event.entities
        for name, index, key in names:
            if key is None:
                if name not in entities:
                    continue
            elif key(entities) is None:
                continue
            blob = state.get(name, b"")
            blobs.append(blob)
            slots += (index, i, len(blob))
        mine += _own_numbers(spec, event, categories)
    return _derived(
        spec,
        blobs,
        np.array(slots, dtype=np.int64).reshape(len(blobs), 3),
        rows,
        at_ms,
        ids,
        np.array(mine, dtype=np.float64).reshape(m, 1 + len(categories)),
    )


def derive_rows_many(
    spec: Spec,
    events: Sequence[Event],
    updates: EntityUpdates,
    blobs: Sequence[bytes],
    overlay: EntityUpdates | None = None,
    own: EntityUpdates | None = None,
) -> Derived:
    """Return what `derive_many` does, from the rows that the caller has, without a loop over them.

    Args:
        spec: What the states mean.
        events: m events.
        updates: `updates_of_events(spec, events)`.
        blobs: For each of these rows the state of its entity; `b""` is one never seen.
        overlay: As for `derive_many`.
        own: As for `derive_many`; all of `updates` where it is left out.

    Raises:
        SchemaMismatch: A state is of another spec, format or entity.
        StateCorrupt: A state's bytes make no sense.
    """
    own = updates if own is None else own
    rows = own if overlay is None or not len(overlay) else concat_updates([own, overlay])
    m, event = len(events), updates.row_event
    slots = np.empty((len(blobs), 3), dtype=np.int64)
    slots[:, 0] = updates.entity
    slots[:, 1] = event
    slots[:, 2] = np.fromiter(map(len, blobs), dtype=np.int64, count=len(blobs))
    at_ms = np.full(m, NO_TIME_MS, dtype=np.int64)
    ids = np.empty(m, dtype=np.uint64)
    _, categories = _plan_of(spec)
    mine = np.empty((m, 1 + len(categories)), dtype=np.float64)
    at_ms[event], ids[event], mine[event, 0] = updates.time_ms, updates.id, updates.value
    for i in np.flatnonzero(at_ms == NO_TIME_MS).tolist():  # it names none of the spec's entities
        at_ms[i], ids[i] = events[i].event_time_ms, identity_hash(identity_of(events[i]))
        mine[i, 0] = base_minor(spec, events[i]) or 0
    for i, one in enumerate(events):
        if one.amount is None:
            mine[i, 0] = np.nan
        if categories:
            mine[i, 1:] = [category_index(one, field, size) for field, size in categories]
    return _derived(spec, blobs, slots, rows, at_ms, ids, mine)


def _derived(
    spec: Spec,
    blobs: Sequence[bytes],
    slots: NDArray[np.int64],
    rows: EntityUpdates,
    at_ms: NDArray[np.int64],
    ids: NDArray[np.uint64],
    own: NDArray[np.float64],
) -> Derived:
    X = np.empty((len(at_ms), spec.n_features), dtype=np.float32)
    return Derived(X, derive_into(spec, blobs, slots, rows, at_ms, ids, own, X))


def add_terms(
    spec: Spec, events: Sequence[Event], at_ms: NDArray[np.int64], values: NDArray[np.float64]
) -> None:
    """Fill the event terms of vectors whose entities' features are there.

    Args:
        spec: Declares the terms.
        events: m events.
        at_ms: int64, shape (m,): their times.
        values: float64, shape (m, n_features), contiguous; the terms' columns are written.
    """
    _, categories = _plan_of(spec)
    own = np.array([_own_numbers(spec, event, categories) for event in events], dtype=np.float64)
    own = own.reshape(len(events), 1 + len(categories))
    add_terms_many(terms_of(spec), own, at_ms, values)


def _own_numbers(spec: Spec, event: Event, categories: list[tuple[str, int]]) -> list[float]:
    """Return the event's amount in base minor units, and its categories' indices."""
    amount = base_minor(spec, event)
    return [
        np.nan if amount is None else amount,
        *(category_index(event, field, size) for field, size in categories),
    ]


def base_minor(spec: Spec, event: Event) -> int | None:
    """Return the event's amount in minor units of the base currency; none without an amount."""
    if event.amount is None:
        return None
    return base_value(event.amount.value, spec.currencies[event.amount.currency])


def missing_of(spec: Spec, x: NDArray[np.float32]) -> list[str]:
    """Return the names of the features that one vector does not have."""
    return [spec.feature_names[i] for i in np.flatnonzero(np.isnan(x)).tolist()]


@lru_cache(maxsize=16)
def _plan_of(spec: Spec) -> tuple[list[_Keyed], list[tuple[str, int]]]:
    """Return the entities (`id_of` for keys of several parts), and the categories."""
    keyed: list[_Keyed] = [
        (entity.name, entity.index, None if entity.key == (entity.name,) else entity.id_of)
        for entity in spec.entities
    ]
    return keyed, [(t.inputs[0], t.size) for t in spec.event_terms if t.kind == "category"]
