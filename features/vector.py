"""states, events → vectors: what the model sees of each event at its own time.

One pass of the kernel for a whole batch; the event's own terms (amount, calendar, ratios,
deviations) are made here. Missing is NaN, never 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from features.event import Event, identity_hash, identity_of
from features.spec import Spec
from features.spec_terms import AMOUNT
from features.update import EntityUpdates, base_value, concat_updates, updates_of_events
from features.window import derive_into

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
NIGHT_HOURS = 6
THURSDAY = 3  # 1970-01-01, counting Monday as 0
SATURDAY = 5


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
    blobs: list[bytes] = []
    event_of: list[int] = []
    entity_of: list[int] = []
    for i, (event, state) in enumerate(zip(events, states, strict=True)):
        for entity in spec.entities:
            if entity.name in event.entities:
                blobs.append(state.get(entity.name, b""))
                event_of.append(i)
                entity_of.append(entity.index)
    slot_of = np.full((len(events), len(spec.entities)), -1, dtype=np.int64)
    slot_of[event_of, entity_of] = np.arange(len(blobs))
    slot = slot_of[rows.row_event, rows.entity]
    assert not len(slot) or slot.min() >= 0
    at_ms = np.array([event.event_time_ms for event in events], dtype=np.int64)
    ids = np.array([identity_hash(identity_of(event)) for event in events], dtype=np.uint64)
    out_row = np.array(event_of, dtype=np.int64)
    entities = np.array(entity_of, dtype=np.int64)
    widths = [0, *(len(entity.features) for entity in spec.entities)]
    values = np.full((len(events), spec.n_features), np.nan)
    late_slots = derive_into(
        spec,
        blobs,
        entities,
        slot,
        rows,
        at_ms[out_row],
        ids[out_row],
        out_row,
        np.cumsum(widths, dtype=np.int64)[entities],
        values,
    )
    late = np.zeros(len(events), dtype=np.bool_)
    np.logical_or.at(late, out_row, late_slots)
    add_terms(spec, events, at_ms, values)
    return Derived(values.astype(np.float32), late)


def base_minor(spec: Spec, event: Event) -> int | None:
    """Return the event's amount in minor units of the base currency; none without an amount."""
    if event.amount is None:
        return None
    return base_value(event.amount.value, spec.currencies[event.amount.currency])


def missing_of(spec: Spec, x: NDArray[np.float32]) -> list[str]:
    """Return the names of the features that one vector does not have."""
    return [spec.feature_names[i] for i in np.flatnonzero(np.isnan(x)).tolist()]


@dataclass(frozen=True, slots=True)
class _TermPlan:
    """Columns of the terms and of what they are made from, by kind."""

    amount: int
    calendar: tuple[tuple[str, int], ...]
    ratio: NDArray[np.intp]
    deviation: NDArray[np.intp]


@lru_cache(maxsize=16)
def _plan_terms(spec: Spec) -> _TermPlan:
    place = {name: i for i, name in enumerate(spec.feature_names)}

    def columns(kind: str, width: int) -> NDArray[np.intp]:
        found = [
            [place[name] for name in (term.name, *term.inputs)]
            for term in spec.event_terms
            if term.kind == kind
        ]
        return np.array(found, dtype=np.intp).reshape(len(found), width).T

    return _TermPlan(
        amount=place[AMOUNT],
        calendar=tuple((t.name, place[t.name]) for t in spec.event_terms if t.kind == "calendar"),
        ratio=columns("ratio", 3),
        deviation=columns("deviation", 4),
    )


def add_terms(
    spec: Spec, events: Sequence[Event], at_ms: NDArray[np.int64], values: NDArray[np.float64]
) -> None:
    """Fill the event's own columns of `values`, which stand behind those of the entities."""
    plan = _plan_terms(spec)
    amounts = [base_minor(spec, event) for event in events]
    values[:, plan.amount] = [np.nan if a is None else a for a in amounts]
    if plan.calendar:
        calendar = _calendar(at_ms)
        for name, column in plan.calendar:
            values[:, column] = calendar[name]
    out, of, to = plan.ratio
    values[:, out] = _divide(values[:, of], values[:, to])
    out, value, mean, std = plan.deviation
    values[:, out] = _divide(values[:, value] - values[:, mean], values[:, std])


def _divide(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the quotient; NaN (missing) where it has no meaning."""
    result = np.full_like(above, np.nan)
    np.divide(above, below, out=result, where=below != 0)
    return result


def _calendar(at_ms: NDArray[np.int64]) -> dict[str, NDArray[np.generic]]:
    """Return the calendar's features (UTC): hour and weekday as points on a circle, and flags."""
    hour = (at_ms % DAY_MS) / HOUR_MS
    weekday = (at_ms // DAY_MS + THURSDAY) % 7
    return {
        "event.hour_sin": np.sin(hour * (2 * np.pi / 24)),
        "event.hour_cos": np.cos(hour * (2 * np.pi / 24)),
        "event.weekday_sin": np.sin(weekday * (2 * np.pi / 7)),
        "event.weekday_cos": np.cos(weekday * (2 * np.pi / 7)),
        "event.is_night": hour < NIGHT_HOURS,
        "event.is_weekend": weekday >= SATURDAY,
    }
