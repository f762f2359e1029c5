"""A feature's value → a sentence, and what is usual beside it; how people write numbers."""

import math
from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.event import Event

Number = Callable[[float], str]
Says = Callable[[float, Event], str]

MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0
UNITS: Final = ((86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second"))
FEWEST = 0.1
"""Mean counts below this are told as fewer than it."""
EVENTS_MIN = 5
"""Events of an entity below which nothing is usual for it."""


class Usual(NamedTuple):
    """What is usual for the very entity, read from the same vector.

    Attributes:
        column: The feature that says it.
        times: It, or with `over` its inverse, times this is on the scale of the value.
        over: Whether the value shrinks as that feature grows.
        seen: The feature that counts the entity's events in that time; None: none does.
    """

    column: int
    times: float
    over: bool = False
    seen: int | None = None

    def of(self, x: NDArray[np.float32]) -> float | None:
        """Return what is usual for the entity of a vector; None if too little is known of it."""
        found = float(x[self.column])
        if math.isnan(found) or (self.over and found <= 0):
            return None
        if self.seen is not None and not x[self.seen] >= EVENTS_MIN:
            return None
        return self.times / found if self.over else found * self.times


class Words(NamedTuple):
    """How to speak of one feature.

    Attributes:
        phrase: What it is, as in `mean payment of this card over 30 days`.
        says: Its value of an event → a clause.
        number: A usual value → words; None where nothing is usual, as of a category.
        whose: Whose usual it would be, as in `this card`; empty for the event's own.
        usual: Where the vector says what is usual for the entity; None: it does not.
    """

    phrase: str
    says: Says
    number: Number | None
    whose: str
    usual: Usual | None

    def sentence(self, value: float | None, event: Event, usual: float, own: bool) -> str:
        """Return the whole reason.

        Args:
            value: None: missing.
            event: What was scored.
            usual: What is usual, in the feature's unit.
            own: Whether for this entity, else among all that the model has seen.
        """
        if value is None:
            return f"{self.phrase}: not known"
        said = self.says(value, event)
        if self.number is None:
            return said
        whose = f"usual for {self.whose}:" if own else "usual:"
        return f"{said}; {whose} {self.number(usual)}"


def plain(value: float) -> str:
    """Return a number to two or three digits, without an exponent: 1.2, 41, 1,305."""
    if abs(value) >= 10 or value == round(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 0.1 else f"{value:.2g}"


def few(count: float) -> str:
    """Return a mean count; one that is hardly ever met is told by its bound."""
    return plain(count) if count >= FEWEST or not count else f"fewer than {FEWEST:g}"


def span(duration_ms: int) -> str:
    """Return a window's length: `10 minutes`, `24 hours`, `7 days`."""
    for size, unit in UNITS:
        if duration_ms % size == 0 and (unit != "day" or duration_ms > size):
            return counted(duration_ms // size, unit)
    return f"{duration_ms} milliseconds"


def lasting(seconds: float) -> str:
    """Return a time that went by, in its fitting unit."""
    if seconds < 2 * MINUTE_S:
        return counted(round(seconds), "second")
    if seconds < 2 * HOUR_S:
        return counted(round(seconds / MINUTE_S), "minute")
    if seconds < 2 * DAY_S:
        return counted(round(seconds / HOUR_S), "hour")
    return counted(round(seconds / DAY_S), "day")


def counted(number: int, noun: str) -> str:
    """Return `1 payment`, `2 payments`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
