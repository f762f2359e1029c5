"""streams → their differences: kernel, brute force and SQL, asked the same questions.

One trial for the unit tests and for `load_tests/exactness.py`, so that both prove the same things.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np

from features.spec import Spec
from features.spec_values import EntitySpec
from features.window import apply_many, evaluate_many
from tests.oracle import Oracle, Row, updates_of
from tests.oracle_answer import Question, difference
from tests.oracle_sql import Answers, SqlOracle
from tests.oracle_streams import Draws, Stream


@dataclass
class Tally:
    """What was compared.

    Attributes:
        values: Features compared with SQL, by aggregate.
        estimates: How many of them reach behind the head, where a bound is allowed.
        flagged: Questions that came too late, and were said to.
        states: State bytes compared, for orders, batches and repeats.
    """

    values: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    questions: int = 0
    tiled: int = 0
    flagged: int = 0
    states: int = 0
    rows: int = 0


def sql_connection() -> duckdb.DuckDBPyConnection:
    """Return a database in memory, on one thread: the tables are small."""
    return duckdb.connect(config={"threads": 1})


def fold(spec: Spec, entity: EntitySpec, rows: Sequence[Row], blob: bytes = b"") -> bytes:
    """Return one entity's state with rows applied in one batch."""
    slot = np.zeros(len(rows), dtype=np.int64)
    return apply_many(spec, [blob], slot, updates_of(spec, entity, rows))[0]


def shuffled(draws: Draws, rows: Sequence[Row]) -> list[Row]:
    """Return the rows in another order."""
    left, order = list(rows), []
    while left:
        order.append(left.pop(draws.integer(0, len(left) - 1)))
    return order


def fold_in_batches(draws: Draws, spec: Spec, entity: EntitySpec, rows: Sequence[Row]) -> bytes:
    """Return one entity's state with rows applied in batches of any size."""
    blob, left = b"", list(rows)
    while left:
        size = draws.integer(1, len(left))
        blob, left = fold(spec, entity, left[:size], blob), left[size:]
    return blob


@dataclass
class Trial:
    """One entity's kernel, brute-force oracle and SQL oracle, side by side."""

    spec: Spec
    entity: EntitySpec
    sql: SqlOracle
    tally: Tally = field(default_factory=Tally)

    def differences(self, streams: Mapping[str, Stream], most_questions: int) -> list[str]:
        """Return every law that a stream breaks, in words that begin with its name."""
        blobs, asked, found = {}, [], []
        for name, stream in streams.items():
            blobs[name], broken = self._state(stream)
            found += [f"{name}: {text}" for text in broken]
            asked += [(name, question) for question in stream.questions(most_questions)]
        self.sql.fill({name: stream.rows for name, stream in streams.items()})
        by_sql = self.sql.answers(asked)
        got, late = evaluate_many(
            self.spec,
            self.entity.index,
            [blobs[name] for name, _ in asked],
            np.array([question.at_ms for _, question in asked], dtype=np.int64),
            np.array([question.own for _, question in asked], dtype=np.uint64),
        )
        brute = {name: Oracle(self.spec, self.entity, s.rows) for name, s in streams.items()}
        for number, (name, question) in enumerate(asked):
            wrong = self._wrong(
                brute[name], by_sql, number, question, got[number].tolist(), bool(late[number])
            )
            found += [f"{name}: {self.entity.name} at {question}: {text}" for text in wrong]
        return found

    def _state(self, stream: Stream) -> tuple[bytes, list[str]]:
        """Return the state of a stream's rows, and what changed it though it must not."""
        blob = fold(self.spec, self.entity, stream.rows)
        arrived = fold_in_batches(stream.draws, self.spec, self.entity, stream.arrivals())
        order = shuffled(stream.draws, stream.rows)
        mixed = fold_in_batches(stream.draws, self.spec, self.entity, order)
        self.tally.states += 3
        self.tally.rows += len(stream.rows)
        found = []
        if arrived != blob:
            found.append("rows that the head still held changed the state when they came again")
        if mixed != blob:
            found.append("another order and other batches made other bytes")
        return blob, found

    def _wrong(
        self,
        brute: Oracle,
        by_sql: Answers,
        number: int,
        question: Question,
        got: Sequence[float],
        late: bool,
    ) -> list[str]:
        names = self.entity.feature_names
        wrong = difference(names, got, brute.answers(question.at_ms, question.own))
        found = [f"{name} is {v!r}, by brute force {right}" for name, (v, right) in wrong.items()]
        if late != brute.late(question.at_ms, question.own):
            found.append(f"late is {late}, brute force says otherwise")
        if late:
            self.tally.flagged += 1
            if by_sql.answerable[number]:
                found.append("flagged as late, though all that it needs is kept")
            return found
        wrong = difference(names, got, by_sql.of(number))
        self._count(got, by_sql.tiled(number))
        return found + [f"{name} is {v!r}, by SQL {right}" for name, (v, right) in wrong.items()]

    def _count(self, values: Sequence[float], tiled: int) -> None:
        self.tally.questions += 1
        self.tally.tiled += tiled
        for feature, value in zip(self.entity.features, values, strict=True):
            self.tally.values[feature.aggregate] += 1
            self.tally.missing[feature.aggregate] += math.isnan(value)
