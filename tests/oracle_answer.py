"""truth, and how far a double may lie from it: what an oracle answers, with its named bound.

Most answers are integers and must be met bit for bit. Five cannot be, each for one reason; their
bounds are worked out here from the size of the sums, and from nothing in the kernel.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from features.spec import Spec
from features.spec_values import EntitySpec, FeatureSpec

UNIT: Final = 2.0**-53  # half a unit in the last place of a double at 1.0
EARTH_KM: Final = 6371.0088  # mean radius R1, IUGG
HALVINGS: Final = 8  # an ewma's weight halves so many times over its window
DISTINCT_ERROR: Final = 1.04 / math.sqrt(64)  # standard error of 64 registers
DISTINCT_SIGMAS: Final = 5
DISTINCT_FLOOR: Final = 2.0  # few values that share registers: no Gaussian speaks of those
OF_LABELS: Final = frozenset({"label_count", "fraud_count", "fraud_rate"})


@dataclass(frozen=True)
class Question:
    """An instant, and the id of the event that asks (0: none of the entity's)."""

    at_ms: int
    own: int = 0


@dataclass(frozen=True)
class Answer:
    """A feature's value; NaN is missing.

    Attributes:
        within: How far a right answer may be off; 0 means bit for bit.
        also: Further values that are right: what is older than every window may or may not
            be forgotten.
    """

    value: float
    within: float = 0.0
    also: tuple[float, ...] = ()

    def admits(self, got: float) -> bool:
        """Whether a kernel may answer so."""
        return any(
            (math.isnan(got) and math.isnan(right)) or abs(got - right) <= self.within
            for right in (self.value, *self.also)
        )


NONE: Final = Answer(math.nan)
_SAME: Final = {"label_count": "labels", "fraud_count": "frauds"}
_SHARES: Final = {
    "mean": ("count", "sum"),
    "std": ("count", "sum"),
    "fraud_rate": ("labels", "frauds"),
}


def difference(
    names: Sequence[str], got: Sequence[float], answers: Sequence[Answer]
) -> Mapping[str, tuple[float, Answer]]:
    """Return the features that are wrong: name → (what was got, what is right)."""
    assert len(names) == len(got) == len(answers)
    return {
        name: (value, answer)
        for name, value, answer in zip(names, got, answers, strict=True)
        if not answer.admits(value)
    }


def filter_of(entity: EntitySpec, feature: FeatureSpec) -> int:
    """Return the filter whose events alone count; -1 for all."""
    return -1 if feature.level is None else entity.levels[feature.level].filter


def rows_kept(spec: Spec, series: int) -> int:
    """Return how many newest rows of a series a state keeps one by one."""
    return spec.limits.label_head_events if series else spec.limits.head_events


def mean(total: int, n: int) -> Answer:
    """Return a mean: the nearest double while the sum has 53 bits, one place off beyond.

    The sum is rounded to a double, then divided: a quotient that is moved by at most a unit in the
    last place and rounded again. Up to 2⁵³ the first rounding does nothing.
    """
    value = total / n
    return Answer(value, 0.0 if abs(total) <= 2**53 else math.ulp(value))


def std(total: int, squares: int, n: int) -> Answer:
    """Return the deviation of the population, to 3·n·2⁻⁵³ of itself.

    With mean m + f (m whole, 0 ≤ f < 1) the kernel takes f² from a sum about m, both rounded by
    three halves of a place. Whole amounts have a variance of at least f·(1 - f), and f ≤ 1 - 1/n,
    so what the subtraction can magnify is at most n - 1.
    """
    variance = (n * squares - total * total) / (n * n)  # of integers: rounded once
    value = math.sqrt(variance)
    return Answer(value, 3 * n * UNIT * value)


def of_window(name: str, figures: Mapping[str, int | None]) -> Answer:
    """Return what follows from a window's integers, by their names; none or absent is missing."""
    if name in ("mean", "std", "fraud_rate"):
        n, total = (figures[key] for key in _SHARES[name])
        if not n or n < 0 or total is None:
            return NONE
        if name == "std":
            return std(total, figures["squares"] or 0, n)
        return mean(total, n)
    figure = figures.get(_SAME.get(name, name))
    return NONE if figure is None else Answer(float(figure))


def ewma(value: float, n: int, size: float) -> Answer:
    """Return a weighted mean, to (2·n + 64)·2⁻⁵³ of the weighted mean of the amounts' sizes.

    A weight 2⁻ˣ with x ≤ 9, made as e to the power -x·ln 2, is off by some 20 half places (those of
    its argument, times 9·ln 2, and its own), its product with an amount by one more, and each of
    the two sums of n by n; the rest is for the doubles of the oracle itself.
    """
    return Answer(value, (2 * n + 64) * UNIT * size)


def ewma_tiled(value: float, spread: float, tile_ms: int, window_ms: int, rounding: float) -> float:
    """Return how far an ewma may be off where whole tiles weigh by their middles.

    Each weight is off by a factor within [1/g, g], g = 2^(8·(tile/2)/window). A mean whose weights
    are so perturbed moves by at most (g² - 1)/2 of the weighted mean distance from the mean.
    """
    g = 2.0 ** (HALVINGS * tile_ms / 2 / window_ms)
    return (g * g - 1) / 2 * spread + g * g * rounding


def distinct_tiled(number: int) -> Answer:
    """Return a number that registers estimate: five standard errors, at least two."""
    return Answer(float(number), max(DISTINCT_FLOOR, DISTINCT_SIGMAS * DISTINCT_ERROR * number))


def distance(km: float) -> Answer:
    """Return a distance on the sphere, to a micrometre but near the antipode.

    sin²(d/2R) is right to some 16 half places; the arc sine magnifies by tan(d/2R), which at the
    antipode itself leaves the root of the rounding: half a metre.
    """
    half = min(km / (2 * EARTH_KM), math.pi / 2)
    magnified = 16 * EARTH_KM * UNIT * math.tan(half) if half < 1.57 else math.inf
    return Answer(km, 1e-9 + min(magnified, 2 * EARTH_KM * math.sqrt(16 * UNIT)))


def speed(way: Answer, milliseconds: int) -> Answer:
    """Return kilometres per hour of a way that took so long; missing if it took no time."""
    if milliseconds == 0:
        return NONE
    hours = milliseconds / 3_600_000
    value = way.value / hours
    return Answer(value, way.within / hours + 4 * UNIT * value)
