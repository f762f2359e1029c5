"""a plain table of events and labels → every aggregate at given instants, by SQL (DuckDB).

The mathematical definition, from all rows: no state, no head, no tile is ever made. A window of w
at time t is `t - w < time <= t`. What a state promises about it is two sentences, and they are the
only thing here that knows of heads and tiles:

- While fewer than `head_events` events are later than t - w, a feature is that of this window.
- Otherwise it is that of the window whose far edge is moved back to the start of its tile,
  `floor((t - w + 1) / tile) · tile <= time <= t`; an ewma and a number of distinct values are then
  right to a stated factor.

Integers stay integers (HUGEINT) until the end, where Python divides them once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import duckdb

from features.spec import Spec
from features.spec_levels import FRAUDS, ID_MASK, LABELS
from features.spec_values import EntitySpec, FeatureSpec
from tests import oracle_answer as answer
from tests.oracle import EVENT, Row
from tests.oracle_answer import EARTH_KM, HALVINGS, NONE, OF_LABELS, Answer, Question, rows_kept

FIELDS = 8

_TABLES = f"""
create or replace table event
  (k varchar, t bigint, id bigint, v bigint, filters integer,
   {", ".join(f"f{i} varchar" for i in range(FIELDS))}, latitude double, longitude double);
create or replace table label (k varchar, t bigint, id bigint, n bigint, v bigint);
create or replace table question (n integer, k varchar, t bigint, own bigint);
create or replace table level
  (l integer, events_kept integer, labels_kept integer, w bigint, tile bigint, filter integer);
"""

_SPANS = """
create or replace table {series}_span as
with newer as (
  select q.n, l.l, count(r.t) as newer
  from question q cross join level l
  left join {series} r on r.k = q.k and r.t > q.t - l.w
  group by q.n, l.l)
select q.*, l.*, newer >= {series}s_kept as tiled, q.t - l.w + 1 as edge,
  edge - case when newer >= {series}s_kept then ((edge % tile) + tile) % tile else 0 end as low
from question q cross join level l join newer using (n, l)
"""

_OF_EVENTS = f"""
select s.n, s.l, any_value(s.tiled) as tiled, count(e.t) as count,
  sum(e.v::hugeint) as sum, sum(e.v::hugeint * e.v) as squares, min(e.v) as min, max(e.v) as max,
  first(e.v order by e.t, e.id) as first,
  last(e.v order by e.t, e.id) filter (not (e.t = s.t and e.id = s.own)) as last,
  {", ".join(f"count(distinct e.f{i}) as f{i}" for i in range(FIELDS))}
from event_span s
left join event e on e.k = s.k and e.t between s.low and s.t
  and (s.filter < 0 or (e.filters >> s.filter) & 1 = 1)
group by s.n, s.l
"""

_EWMA = f"""
with weighted as (
  select s.n, s.l, e.v, pow(2.0, -{HALVINGS}.0 * (s.t - e.t) / s.w) as weight
  from event_span s join event e on e.k = s.k and e.t between s.low and s.t
    and (s.filter < 0 or (e.filters >> s.filter) & 1 = 1)),
means as (
  select n, l, kahan_sum(v * weight) / kahan_sum(weight) as mean from weighted group by n, l)
select n, l, any_value(mean) as ewma,
  kahan_sum(abs(v) * weight) / kahan_sum(weight) as size,
  kahan_sum(abs(v - mean) * weight) / kahan_sum(weight) as spread
from weighted join means using (n, l) group by n, l
"""

_OF_LABELS = """
select s.n, s.l, coalesce(sum(b.n), 0) as labels, coalesce(sum(b.v), 0) as frauds
from label_span s left join label b on b.k = s.k and b.t between s.low and s.t
group by s.n, s.l
"""

_ANGLE = """
atan2(
  sqrt(pow(cos(a) * sin(b) * sin(d) - sin(a) * cos(b) * sin(c), 2)
     + pow(sin(a) * cos(b) * cos(c) - cos(a) * sin(b) * cos(d), 2)
     + pow(cos(a) * cos(b) * sin(d - c), 2)),
  cos(a) * cos(b) * cos(d - c) + sin(a) * sin(b))
"""

_OF_LAST = f"""
with pairs as (
  select q.n, q.t as at, last.t as t, own.id is not null as asks, own.v as own_v,
    (select count(*) from event e where e.k = q.k and (e.t, e.id) > (last.t, last.id)) as newer,
    (select count(*) from event e where e.k = q.k and (e.t, e.id) > (q.t, q.own)) as own_newer,
    {", ".join(f"last.f{i} as was{i}, own.f{i} as now{i}" for i in range(FIELDS))},
    radians(last.latitude) as a, radians(own.latitude) as b,
    radians(last.longitude) as c, radians(own.longitude) as d
  from question q
  left join lateral (
    select * from event e where e.k = q.k and e.t <= q.t and not (e.t = q.t and e.id = q.own)
    order by e.t desc, e.id desc limit 1) last on true
  left join event own on own.k = q.k and own.t = q.t and own.id = q.own)
select *, {_ANGLE} * {EARTH_KM} as km from pairs order by n
"""

_ANSWERABLE = """
select q.n,
  q.t >= greatest(coalesce((select max(t) from event e where e.k = q.k), -1),
                  coalesce((select max(t) from label b where b.k = q.k), -1)) - $reorder
  and (select count(*) from event e where e.k = q.k and e.t > q.t) < $events
  and (select count(*) from label b where b.k = q.k and b.t > q.t) < $labels as answerable
from question q order by q.n
"""


class SqlOracle:
    """What SQL says about one kind of entity.

    Tables `event` (key, time, id, amount, bits of the filters that hold, fields f0 … f7, place)
    and `label` (key, time, id, +1 or -1, +1, 0 or -1 for fraud) are the caller's to fill.
    """

    def __init__(self, spec: Spec, entity: EntitySpec, sql: duckdb.DuckDBPyConnection) -> None:
        self.spec = spec
        self.entity = entity
        self.sql = sql
        sql.execute(_TABLES)
        events, labels = rows_kept(spec, 0), rows_kept(spec, 1)
        self._insert("level", [
            (number, events, labels, level.window_ms, level.tile_ms, level.filter)
            for number, level in enumerate(entity.levels)
        ])  # fmt: skip

    def _insert(self, table: str, rows: Sequence[Sequence[Any]]) -> None:
        self.sql.execute(f"delete from {table}")
        if rows:
            columns = [list(column) for column in zip(*rows, strict=True)]
            marks = ", ".join("unnest(?)" for _ in columns)
            self.sql.execute(f"insert into {table} select {marks}", columns)

    def fill(self, streams: Mapping[str, Sequence[Row]]) -> None:
        """Put the rows of entities into the tables, each under its key; a field of 0 is absent."""
        kinds = [field.kind for field in self.entity.fields]
        places = [kinds.index(kind) for kind in ("latitude", "longitude") if kind in kinds]
        events, labels = [], []
        for key, row in ((key, row) for key, rows in streams.items() for row in set(rows)):
            at = (key, row.time_ms, row.id & ID_MASK)
            if row.series != EVENT:
                labels.append((*at, row.count, row.value))
                continue
            named = [str(v) if v else None for v in row.fields]
            named += [None] * (FIELDS - len(named))
            place = [(row.fields[i] - 1) / 1e6 - 180 if row.fields[i] else None for i in places]
            events.append((*at, row.value, row.filters, *named, *(place or (None, None))))
        self._insert("event", events)
        self._insert("label", labels)

    def answers(self, questions: Sequence[tuple[str, Question]]) -> "Answers":
        """Return what is right at each question about the entity of a key."""
        rows = [
            (number, key, question.at_ms, question.own & ID_MASK)
            for number, (key, question) in enumerate(questions)
        ]
        self._insert("question", rows)
        for series in ("event", "label"):
            self.sql.execute(_SPANS.format(series=series))
        limits = {
            "reorder": self.spec.reorder_ms,
            "events": rows_kept(self.spec, 0),
            "labels": rows_kept(self.spec, 1),
        }
        answerable = self.sql.execute(_ANSWERABLE, limits).fetchall()
        aggregates = {feature.aggregate for feature in self.entity.features}
        return Answers(
            self.spec,
            self.entity,
            [bool(row[1]) for row in answerable],
            self._by_window(_OF_EVENTS),
            self._by_window(_EWMA) if "ewma" in aggregates else {},
            self._by_window(_OF_LABELS) if aggregates & OF_LABELS else {},
            self._rows(_OF_LAST),
        )

    def _rows(self, text: str) -> list[dict[str, Any]]:
        found = self.sql.execute(text)
        assert found.description is not None
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def _by_window(self, text: str) -> dict[tuple[int, int], dict[str, Any]]:
        return {(row["n"], row["l"]): row for row in self._rows(text)}


class Answers:
    """SQL's figures about a list of questions, as answers with their bounds.

    Attributes:
        answerable: Whether a state must be able to answer (else it may say that it is too late).
    """

    def __init__(
        self,
        spec: Spec,
        entity: EntitySpec,
        answerable: list[bool],
        of_events: Mapping[tuple[int, int], dict[str, Any]],
        ewma: Mapping[tuple[int, int], dict[str, Any]],
        of_labels: Mapping[tuple[int, int], dict[str, Any]],
        of_last: list[dict[str, Any]],
    ) -> None:
        self.entity = entity
        self.kept = rows_kept(spec, EVENT)
        label_bits = 1 << LABELS | 1 << FRAUDS
        self.remembered_ms = max(  # an event behind the head, by the tiles that count it
            (level.window_ms for level in entity.levels if level.columns & ~label_bits), default=0
        )
        self._windows = {EVENT: of_events, 1: of_labels}
        self._ewma = ewma
        self._last = of_last
        self.answerable = [
            can and (last["t"] is None or last["newer"] < self.kept)
            for can, last in zip(answerable, of_last, strict=True)
        ]

    def tiled(self, number: int) -> int:
        """Return how many of a question's event windows reach behind the head."""
        levels = range(len(self.entity.levels))
        return sum(self._windows[EVENT][number, level]["tiled"] for level in levels)

    def of(self, number: int) -> list[Answer]:
        """Return the features of one question, in vector order."""
        return [self._feature(number, feature) for feature in self.entity.features]

    def _feature(self, number: int, feature: FeatureSpec) -> Answer:
        name = feature.aggregate
        if feature.level is None:
            return self._of_last(feature, self._last[number])
        row = self._windows[int(name in OF_LABELS)][number, feature.level]
        if name == "distinct":
            found = int(row[f"f{feature.field}"])
            return answer.distinct_tiled(found) if row["tiled"] else Answer(float(found))
        if name == "ewma":
            return self._of_ewma((number, feature.level), row["count"], row["tiled"])
        figures = {key: None if value is None else int(value) for key, value in row.items()}
        if name == "sum":
            figures["sum"] = figures["sum"] or 0
        right = answer.of_window(name, figures)
        asker = self._last[number]
        if name == "last" and asker["asks"] and asker["own_newer"] >= self.kept:
            # An asking event that has left the head (so many more share its very time) is one of
            # its tile, which cannot leave it out.
            return replace(right, also=(float(asker["own_v"]),))
        return right

    def _of_ewma(self, window: tuple[int, int], n: int, tiled: bool) -> Answer:
        if n == 0:
            return NONE
        row = self._ewma[window]
        exact = answer.ewma(row["ewma"], n, row["size"])
        if not tiled:
            return exact
        level = self.entity.levels[window[1]]
        within = answer.ewma_tiled(
            exact.value, row["spread"], level.tile_ms, level.window_ms, exact.within
        )
        return Answer(exact.value, within)

    def _of_last(self, feature: FeatureSpec, pair: dict[str, Any]) -> Answer:
        """Return how the asking event compares with the newest other one."""
        name, last_ms = feature.aggregate, pair["t"]
        if last_ms is None:
            return Answer(1.0) if name == "is_new" else NONE
        took_ms = pair["at"] - last_ms
        forgotten = took_ms >= self.remembered_ms
        if name == "is_new":
            return Answer(0.0, also=(1.0,) if forgotten else ())
        if name == "since_last":
            right = Answer(took_ms / 1000)
        else:
            right = self._compared(feature, pair)
            forgotten |= pair["own_newer"] >= self.kept  # what asks has left the head
        return replace(right, also=(math.nan,)) if forgotten else right

    def _compared(self, feature: FeatureSpec, pair: dict[str, Any]) -> Answer:
        """Return whether a field changed since the last event, or how far and fast it is."""
        if feature.aggregate == "changed":
            was, now = pair[f"was{feature.field}"], pair[f"now{feature.field}"]
            known = pair["asks"] and was is not None and now is not None
            return Answer(float(was != now)) if known else NONE
        if pair["km"] is None:
            return NONE
        way = answer.distance(pair["km"])
        return way if feature.aggregate == "distance" else answer.speed(way, pair["at"] - pair["t"])
