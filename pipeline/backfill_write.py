"""features by entity, events, net labels → vectors in log order, in one Parquet file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.event import Event
from features.spec import Spec
from features.vector import add_terms
from pipeline.backfill_job import BackfillJob, Cut
from pipeline.spill import read_numbers, read_segment, unpack

LATE_QUESTION: Final = "late_question"
ROW_GROUP_ROWS: Final = 131_072
_INSTANT: Final = pl.Datetime("ms", "UTC")
_bodies = msgspec.msgpack.Decoder(list[bytes])
_event = msgspec.json.Decoder(Event)


def schema_of(spec: Spec) -> pl.Schema:
    """Return the columns of a backfill."""
    return pl.Schema(
        {
            "tenant": pl.String(),
            "event_type": pl.String(),
            "event_id": pl.String(),
            "event_time": _INSTANT,
            "label": pl.String(),
            "label_time": _INSTANT,
            **dict.fromkeys(spec.feature_names, pl.Float32()),
            LATE_QUESTION: pl.Boolean(),
        }
    )


def write_batch(job: BackfillJob, cut: Cut, batch: int) -> int:
    """Put a batch's vectors together; writes `part-N`, and returns its rows."""
    spec = job.spec
    known = unpack(read_segment(job.file("events", batch), 0))
    asked = np.flatnonzero(read_numbers(job.file("asks", batch), np.bool_))
    if not len(asked):
        return 0
    bodies = _bodies.decode(read_segment(job.file("events", batch), 1))
    events = [_event.decode(bodies[i]) for i in asked.tolist()]
    at_ms, position = known["time_ms"][asked], known["position"][asked]
    values = np.full((len(asked), spec.n_features), np.nan)
    late = np.zeros(len(asked), np.bool_)
    _gather(job, batch // job.epoch_batches, position, values, late)
    add_terms(spec, events, at_ms, values)
    label, label_time = _labels(job, position)
    frame = pl.DataFrame(
        {
            "tenant": [event.tenant for event in events],
            "event_type": [event.event_type for event in events],
            "event_id": [event.event_id for event in events],
            "event_time": pl.Series(at_ms, dtype=pl.Int64).cast(_INSTANT),
            "label": label,
            "label_time": label_time,
        }
    )
    X = pl.DataFrame(values.astype(np.float32), schema=list(spec.feature_names))
    frame = frame.hstack(X).with_columns(pl.Series(LATE_QUESTION, late))
    frame.match_to_schema(schema_of(spec)).write_ipc(
        job.file("part", batch), compression="uncompressed"
    )
    return len(frame)


def _gather(
    job: BackfillJob,
    epoch: int,
    position: NDArray[np.int64],
    values: NDArray[np.float64],
    late: NDArray[np.bool_],
) -> None:
    """Fill the entities' columns from what the buckets hold of these positions."""
    begin = 0
    for entity in job.spec.entities:
        end = begin + len(entity.features)
        for bucket in range(job.entity_buckets):
            named = (bucket, epoch, entity.index)
            at = read_numbers(job.file("at", *named))
            low, high = np.searchsorted(at, [position[0], position[-1] + 1]).tolist()
            if low == high:
                continue
            found = read_numbers(job.file("values", *named), np.float64, (-1, end - begin))
            row = np.searchsorted(position, at[low:high])
            values[row, begin:end] = found[low:high]
            late[row] |= read_numbers(job.file("late", *named), np.bool_)[low:high]
        begin = end


def _labels(job: BackfillJob, position: NDArray[np.int64]) -> tuple[pl.Series, pl.Series]:
    """Return the net label of each event, as the end of the log knows it, and since when."""
    fraud = np.full(len(position), -1, np.int64)
    time_ms = np.zeros(len(position), np.int64)
    for bucket in range(job.join_buckets):
        at, what, since_ms = read_numbers(job.file("net", bucket)).reshape(3, -1)
        low, high = np.searchsorted(at, [position[0], position[-1] + 1]).tolist()
        row = np.searchsorted(position, at[low:high])
        own = position[row] == at[low:high]  # the others' vectors are not written
        fraud[row[own]] = what[low:high][own]
        time_ms[row[own]] = since_ms[low:high][own]
    known = pl.Series(fraud >= 0)
    words = pl.Series(np.array(["legit", "fraud"], dtype=object)[np.maximum(fraud, 0)].tolist())
    times = pl.Series(time_ms, dtype=pl.Int64).cast(_INSTANT)
    frame = pl.select(label=pl.when(known).then(words), label_time=pl.when(known).then(times))
    return frame["label"], frame["label_time"]


def join_parts(job: BackfillJob, parts: list[int], out: Path, metadata: Mapping[str, str]) -> None:
    """Write the parts of these batches as one Parquet file, which appears when it is complete.

    Raises:
        OSError: It cannot be written.
    """
    unfinished = out.with_name(f".{out.name}.unfinished")
    lazy = (
        pl.scan_ipc([job.file("part", batch) for batch in parts])
        if parts
        else pl.LazyFrame(schema=schema_of(job.spec))
    )
    try:
        lazy.sink_parquet(
            unfinished,
            row_group_size=ROW_GROUP_ROWS,
            maintain_order=True,
            metadata=dict(metadata),
        )
        unfinished.replace(out)
    finally:
        unfinished.unlink(missing_ok=True)
