"""decisions and labels of a log → judged rows: what a learner would have judged, had it run.

Each decision is judged once its event is `mature_ms` of event time old, by the labels whose own
time had come by then. There are no members' beliefs in a log: only what decided is judged.
"""

from collections.abc import Sequence

import polars as pl

from pipeline.decided import PlacedLabel
from pipeline.join import JoinRow, Statement, merge, source_of
from pipeline.judged_columns import Judged
from pipeline.judged_parquet import frame_of
from pipeline.truth import importance_of, settled_net


def judge_log(
    decisions: Sequence[JoinRow], labels: Sequence[PlacedLabel], mature_ms: int
) -> pl.DataFrame:
    """Judge the decisions of a log; return rows of `judged_parquet.SCHEMA`, in order of event time.

    Args:
        decisions: Of several on one event, that of the lowest place counts.
        labels: In any order.
        mature_ms: Event time after which an event counts as known, above 0.
    """
    assert mature_ms > 0
    rows: dict[int, JoinRow] = {}
    for decision in decisions:
        known = rows.get(decision.key)
        if known is None or decision.place < known.place:
            rows[decision.key] = decision
    said: dict[int, list[Statement]] = {}
    for key, statement in labels:
        said.setdefault(key, []).append(statement)
    clock_ms = max((row.event_ms for row in rows.values()), default=0)
    judged = []
    for row in sorted(rows.values(), key=lambda row: (row.event_ms, row.key)):
        known_ms = row.event_ms + mature_ms
        if known_ms > clock_ms or row.p is None or importance_of(row) == 0.0:
            continue
        row.statements = merge((), [s for s in said.get(row.key, ()) if s.time_ms <= known_ms])
        row.matured = True
        row.net = settled_net(row, mature_ms)
        if row.net is not None:
            judged.append(_judged(row, known_ms))
    return frame_of([(seq, (), row) for seq, row in enumerate(judged, start=1)])


def _judged(row: JoinRow, known_ms: int) -> Judged:
    assert row.p is not None
    assert row.net is not None
    return Judged(
        row.key,
        row.name,
        row.event_ms,
        known_ms,
        int(row.net.fraud),
        row.p,
        row.amount,
        row.card,
        row.outcome,
        row.propensity,
        row.weights_version,
        source_of(row),
        b"",
    )
