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
        amount = base_minor(spec, event)
        mine.append(np.nan if amount is None else amount)
        for field, size in categories:
            mine.append(category_index(event, field, size))
    X = np.empty((m, spec.n_features), dtype=np.float32)
    late = derive_into(
        spec,
        blobs,
        np.array(slots, dtype=np.int64).reshape(len(blobs), 3),
        rows,
        at_ms,
        ids,
        np.array(mine, dtype=np.float64).reshape(m, 1 + len(categories)),
        X,
    )
    return Derived(X, late)


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
