"""A spec with every aggregate, and streams for it: late, tied, repeated, bursting, jumping in time.

One description of a stream for two drawers: hypothesis, which makes a failure small, and a seeded
generator, which makes it repeatable among millions.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeVar

from hypothesis import strategies as st

from features.spec import Spec
from features.spec_levels import ID_MASK
from features.spec_values import EntitySpec
from tests.oracle import EVENT, LABEL, Row
from tests.oracle_answer import Question, rows_kept

AMOUNT_MAX: Final = 2**44
START_MS: Final = 100_000
WHEN: Final = ("own", "own", "own", "near", "edge", "recent", "silence")
WAYS: Final = ("step", "step", "step", "tie", "late", "edge", "jump", "back", "burst")

EVERY_AGGREGATE = """
money: {base: EUR, rates_version: "1", rates: {EUR: "1"}}
event_types:
  card_payment: {primary: card}
limits: {head_events: 4, label_head_events: 3, reorder: 40ms, blob_max_bytes: 262144}
place: {latitude: lat, longitude: lon}
filters:
  online: {channel: [ecom, moto]}
  large: {amount: {at_least: 100.00}}
entities:
  card:
    count: [30ms, 200ms, 1s, 10s]
    sum: [200ms, 1s, 10s]
    mean: [200ms, 10s]
    std: [200ms, 1s, 10s]
    min: [200ms, 10s]
    max: [200ms, 1s, 10s]
    first: [30ms, 1s, 10s]
    last: [200ms, 10s]
    ewma: [200ms, 1s, 10s]
    distinct:
      merchant: [200ms, 10s]
      country: [1s]
    where:
      online: {count: [200ms, 10s], sum: [1s], first: [1s, 10s], last: [1s, 10s], max: [10s]}
      large:
        {count: [1s], mean: [1s], std: [10s], min: [1s], ewma: [1s], distinct: {country: [10s]}}
    since_last: true
    is_new: true
    changed: [country, device]
    distance: true
    fraud_count: [200ms, 1s]
    label_count: [1s, 20s]
    fraud_rate: [1s, 10s]
  merchant:
    count: [1s]
    fraud_rate: [1010ms]
    last: [1s]
"""

T = TypeVar("T")


class Draws(Protocol):
    """Where a stream's choices come from."""

    def integer(self, low: int, high: int) -> int:
        """Return one of low … high."""

    def choice(self, options: Sequence[T]) -> T:
        """Return one of them."""


@dataclass(frozen=True)
class Seeded:
    """Choices of a seeded generator."""

    generator: random.Random

    def integer(self, low: int, high: int) -> int:
        return self.generator.randint(low, high)

    def choice(self, options: Sequence[T]) -> T:
        return self.generator.choice(options)


@dataclass(frozen=True)
class Drawn:
    """Choices of hypothesis."""

    draw: st.DrawFn

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def choice(self, options: Sequence[T]) -> T:
        return self.draw(st.sampled_from(options))


def spec_in(text: str, folder: Path) -> Spec:
    """Return the spec of a text, written into a folder."""
    path = folder / "features.yaml"
    path.write_text(text, encoding="utf-8")
    return Spec.load(path)


def hash_of(name: str) -> int:
    """Return 32 bits as good as random, never 0."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest()) or 1


@dataclass
class Stream:
    """One entity's rows, in the order of their arrival, as they are drawn.

    Attributes:
        names: How many different values its fields have.
        amounts: The range of its amounts.
    """

    draws: Draws
    spec: Spec
    entity: EntitySpec
    names: int = 4
    amounts: tuple[int, int] = (0, 200)
    clock_ms: int = START_MS
    rows: list[Row] = field(default_factory=list)
    ids: set[int] = field(default_factory=lambda: {0})

    @classmethod
    def drawn(cls, draws: Draws, spec: Spec, entity: EntitySpec, most: int) -> "Stream":
        """Return a stream of up to so many rows."""
        top = AMOUNT_MAX
        ranges = ((0, 200), (-(10**6), 10**6), (-top, top), (top - 1, top), (-top, 1 - top))
        stream = cls(draws, spec, entity, draws.choice((1, 4, 60)), draws.choice(ranges))
        length = draws.integer(0, most)
        while len(stream.rows) < length:
            stream.add()
        return stream

    def add(self) -> None:
        """Draw the next row, or the next burst of them."""
        way = self.draws.choice(WAYS)
        windows = [level.window_ms for level in self.entity.levels]
        at_ms = self.clock_ms
        if way in ("step", "jump", "back"):
            step = self.draws.integer(1, 60)
            if way != "step":
                step = self.draws.choice(windows) + self.draws.integer(-60, 1500)
            at_ms = self.clock_ms = max(0, at_ms + (-step if way == "back" else step))
        elif way == "late":
            at_ms = max(0, at_ms - self.draws.integer(1, max(windows) * 2))
        elif way == "edge" and self.rows:
            near = self.draws.choice(self.rows[-8:]).time_ms
            at_ms = near + self.draws.choice(windows) + self.draws.integer(-1, 1)
        for _ in range(self.draws.integer(2, 9) if way == "burst" else 1):
            if self.draws.integer(0, 3):
                self._add_event(at_ms)
            else:
                self._add_label(at_ms)

    def _add_event(self, at_ms: int) -> None:
        kinds = [field.kind for field in self.entity.fields]
        fields = tuple(self._field(kind, number) for number, kind in enumerate(kinds))
        bits = self.draws.integer(0, (1 << len(self.spec.filters)) - 1)
        self.rows.append(
            Row(EVENT, at_ms, self._id(), 1, self.draws.integer(*self.amounts), fields, bits)
        )

    def _add_label(self, at_ms: int) -> None:
        """Add a label, or the removal of an earlier one, which has that one's very time."""
        removed = {(row.time_ms, -row.count, -row.value) for row in self.rows}
        standing = [
            row
            for row in self.rows
            if row.series == LABEL
            and row.count > 0
            and (row.time_ms, row.count, row.value) not in removed
        ]
        if standing and not self.draws.integer(0, 2):
            gone = self.draws.choice(standing)
            self.rows.append(Row(LABEL, gone.time_ms, self._id(), -1, -gone.value))
        else:
            self.rows.append(Row(LABEL, at_ms, self._id(), 1, self.draws.integer(0, 1)))

    def _id(self) -> int:
        """Return an id that differs from the others in the bits that a state keeps."""
        number = self.draws.integer(1, 2**64 - 1)
        while number & ID_MASK in self.ids:
            number = (number + 1) % 2**64
        self.ids.add(number & ID_MASK)
        return number

    def _field(self, kind: str, number: int) -> int:
        if not self.draws.integer(0, 9):
            return 0
        if kind == "hash":
            return hash_of(f"{number} {self.draws.integer(1, self.names)}")
        limit = 90 if kind == "latitude" else 180
        millionths = self.draws.choice((-limit * 10**6, limit * 10**6, 0, 48_856_613, None))
        if millionths is None:
            millionths = self.draws.integer(-limit * 10**6, limit * 10**6)
        return millionths + 180 * 10**6 + 1

    def questions(self, most: int) -> list[Question]:
        """Return instants at, just before, after and between events, and after long silence."""
        questions = []
        windows = [level.window_ms for level in self.entity.levels]
        latest = sorted(self.rows, key=lambda row: row.order)[-rows_kept(self.spec, EVENT) - 2 :]
        newest = latest[-1].time_ms if latest else START_MS
        for _ in range(self.draws.integer(1, most)):
            way = self.draws.choice(WHEN)
            asking = [row for row in latest if row.series == EVENT][-3:] if way == "own" else latest
            row = self.draws.choice(asking) if asking else Row(EVENT, newest, 7)
            at_ms, own = row.time_ms, row.id if way == "own" else 0
            if way == "near":
                at_ms += self.draws.integer(-1, 1)
            elif way == "edge":
                at_ms += self.draws.choice(windows) + self.draws.integer(-1, 1)
            elif way == "recent":
                at_ms = newest + self.draws.integer(-self.spec.reorder_ms - 1, 100)
            elif way == "silence":
                at_ms = newest + max(windows) + self.draws.integer(-2, 2 * max(windows))
            questions.append(Question(max(0, at_ms), own))
        return questions

    def arrivals(self) -> list[Row]:
        """Return the rows with repeats of what a head still holds: at once, or some rows later."""
        arrived: list[Row] = []
        held: tuple[list[Row], list[Row]] = ([], [])
        for row in self.rows:
            arrived.append(row)
            head = held[row.series]
            head.append(row)
            head.sort(key=lambda one: one.order)
            del head[: -rows_kept(self.spec, row.series)]
            if not self.draws.integer(0, 3):
                arrived.append(self.draws.choice(self.draws.choice([h for h in held if h])))
        return arrived
