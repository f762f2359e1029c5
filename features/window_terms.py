"""an event's own columns and the entities' features → the terms made from them, in place.

A term is five numbers: its kind, the column that it fills, and the columns (for an index: the
place in the event's own row) that it is made from.
"""

import math
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.spec import EventTerm, Spec
from features.spec_terms import AMOUNT
from features.window_jit import Floats, Int, Ints, compiled

AMOUNT_TERM, RATIO, DEVIATION, CATEGORY = range(4)
HOUR_SIN, HOUR_COS, WEEKDAY_SIN, WEEKDAY_COS, IS_NIGHT, IS_WEEKEND = range(4, 10)
CALENDAR: Final = {
    "event.hour_sin": HOUR_SIN,
    "event.hour_cos": HOUR_COS,
    "event.weekday_sin": WEEKDAY_SIN,
    "event.weekday_cos": WEEKDAY_COS,
    "event.is_night": IS_NIGHT,
    "event.is_weekend": IS_WEEKEND,
}
KINDS: Final = {
    "amount": AMOUNT_TERM,
    "ratio": RATIO,
    "deviation": DEVIATION,
    "category": CATEGORY,
}
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
NIGHT_HOURS = 6
THURSDAY = 3  # 1970-01-01, counting Monday as 0
SATURDAY = 5
HOUR_TURN = 2.0 * math.pi / 24.0
WEEKDAY_TURN = 2.0 * math.pi / 7.0


@lru_cache(maxsize=16)
def terms_of(spec: Spec) -> NDArray[np.int64]:
    """Return the spec's terms as numbers, int64 (T, 5), in an order that fills inputs first."""
    place = {name: i for i, name in enumerate(spec.feature_names)}
    categories = [term.name for term in spec.event_terms if term.kind == "category"]
    found = []
    for term in spec.event_terms:
        row = [_kind_of(term), place[term.name], 0, 0, 0]
        if term.kind == "category":
            row[2] = 1 + categories.index(term.name)
        else:
            row[2 : 2 + len(term.inputs)] = [place[name] for name in term.inputs]
        found.append(row)
    found.sort(key=lambda row: row[0])
    return np.array(found, dtype=np.int64).reshape(len(found), 5)


def _kind_of(term: EventTerm) -> int:
    assert term.kind != "amount" or term.name == AMOUNT
    return CALENDAR[term.name] if term.kind == "calendar" else KINDS[term.kind]


@compiled
def add_terms(terms: Ints, own: Floats, at_ms: Int, values: Floats) -> None:
    """Fill the terms of one event; missing (NaN) is what has no meaning.

    Args:
        terms: As `terms_of` gives them.
        own: The event's amount in base minor units, then its categories' indices.
        at_ms: Its time.
        values: Its features; those of the entities are there.
    """
    for t in range(terms.shape[0]):
        kind = terms[t, 0]
        at = terms[t, 2]
        if kind == AMOUNT_TERM:
            value = own[0]
        elif kind == RATIO:
            value = divide(values[at], values[terms[t, 3]])
        elif kind == DEVIATION:
            value = divide(values[at] - values[terms[t, 3]], values[terms[t, 4]])
        elif kind == CATEGORY:
            value = own[at]
        else:
            value = calendar(kind, at_ms)
        values[terms[t, 1]] = value


@compiled
def divide(above: float, below: float) -> float:
    """Return the quotient; NaN (missing) where there is none."""
    return above / below if below != 0.0 else math.nan


@compiled
def calendar(kind: Int, at_ms: Int) -> float:
    """Return a term of the calendar (UTC): hour and weekday as points on a circle, and flags."""
    hour = float(at_ms % DAY_MS) / float(HOUR_MS)
    weekday = (at_ms // DAY_MS + THURSDAY) % 7
    result = 0.0
    if kind == HOUR_SIN:
        result = math.sin(hour * HOUR_TURN)
    elif kind == HOUR_COS:
        result = math.cos(hour * HOUR_TURN)
    elif kind == WEEKDAY_SIN:
        result = math.sin(float(weekday) * WEEKDAY_TURN)
    elif kind == WEEKDAY_COS:
        result = math.cos(float(weekday) * WEEKDAY_TURN)
    elif (kind == IS_NIGHT and hour < NIGHT_HOURS) or (kind == IS_WEEKEND and weekday >= SATURDAY):
        result = 1.0
    return result
