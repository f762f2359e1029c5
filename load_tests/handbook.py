"""`python -m load_tests.handbook`: how good the decisions on the Handbook's log were, as made.

The log goes through the whole path with a barrier, so that no decision is made before everything
that was known then has been counted and learned. `RISKBEAT_HANDBOOK` names the Parquet file;
without it nothing is run, and the rows say so.
"""

import asyncio
import math
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from aiokafka import AIOKafkaConsumer
from numpy.typing import NDArray

from load_tests.deployment import KAFKA, WORKERS, Deployment, deployed
from load_tests.path import Log, replay
from load_tests.report import ROOT, Row, main

DAYS, QUICK_DAYS = 60.0, 1.0
WEEK = 7
BARRIER = "6h"
LABELS_ALL_COME = "0"  # every row has its label after seven days, so silence says nothing


class Scored(msgspec.Struct):
    """The log-odds of one decision."""

    logit: float | None


class Decided(msgspec.Struct):
    """What is read of one decision record."""

    event_id: str
    score: Scored


async def read_logits(kafka: str, topic: str) -> dict[str, float]:
    """Return event id → log-odds of the first decision about it, of a whole topic."""
    decoder = msgspec.json.Decoder(Decided)
    found: dict[str, float] = {}
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest")
    await consumer.start()
    try:
        for partition, end in (await consumer.end_offsets(list(consumer.assignment()))).items():
            while await consumer.position(partition) < end:
                batches = await consumer.getmany(partition, timeout_ms=500, max_records=10_000)
                for record in batches.get(partition, []):
                    decided = decoder.decode(record.value)
                    logit = decided.score.logit
                    found.setdefault(decided.event_id, math.nan if logit is None else logit)
    finally:
        await consumer.stop()
    return found


def average_precision(y: NDArray[np.int8], score: NDArray[np.float64]) -> float:
    """Return step-wise average precision; ties count together."""
    order = np.argsort(-score, kind="stable")
    y, score = y[order], score[order]
    last_of_tie = np.flatnonzero(np.append(np.diff(score) != 0, True))
    hits = np.cumsum(y)[last_of_tie]
    recall_steps = np.diff(np.append(0, hits)) / max(1, hits[-1])
    return float((recall_steps * hits / (last_of_tie + 1)).sum())


def by_week(log: Log, logits: dict[str, float]) -> list[Row]:
    """Return the average precision of each week's decisions."""
    columns = ["TRANSACTION_ID", "TX_DATETIME", "TX_FRAUD"]
    rows = pl.read_parquet(log.path, columns=columns).sort("TX_DATETIME")
    first = rows["TX_DATETIME"].min()
    rows = rows.filter(pl.col("TX_DATETIME") < first + timedelta(days=log.days))  # type: ignore[operator]
    score = np.array([logits.get(str(name), math.nan) for name in rows["TRANSACTION_ID"]])
    day = (rows["TX_DATETIME"] - first).dt.total_days().to_numpy()
    y = rows["TX_FRAUD"].to_numpy()
    found = []
    for week in range(int(day.max()) // WEEK + 1):
        mine = (day // WEEK == week) & ~np.isnan(score)
        figure = average_precision(y[mine], score[mine]) if y[mine].any() else math.nan
        note = f"{int(mine.sum())} decisions, {int(y[mine].sum())} frauds"
        found.append(Row(f"week {week + 1}: average precision", figure, "AP", note=note))
    undecided = int(np.isnan(score).sum())
    found.append(Row("events without a scored decision", undecided, "events", 0, 0, "lower"))
    return found


def measure_on(deployment: Deployment, path: Path, days: float) -> list[Row]:
    """Replay behind a barrier, and look at every decision."""
    log = Log(path, "handbook", "TX_DATETIME", days, 0.0)
    before = deployment.cpu_s()
    start = time.monotonic()
    replay(deployment, log, days, "--barrier", BARRIER)
    seconds = time.monotonic() - start
    spent = {name: after - before[name] for name, after in deployment.cpu_s().items()}
    env = deployment.processes.env
    topic = f"{env['RISKBEAT_TOPIC_PREFIX']}decisions.v1"
    logits = asyncio.run(read_logits(env[KAFKA], topic))
    events = log.events_until(days)
    return [
        Row("events", events, "events", note=f"{days:g} days, barrier {BARRIER}"),
        Row("whole path behind the barrier", events / seconds, "events/s", note=deployment.servers),
        *(Row(f"{name}: CPU", spent[name], "CPU-s", better="lower") for name in WORKERS),
        *by_week(log, logits),
    ]


def measure(quick: bool) -> Sequence[Row]:
    """Deploy and measure, where there is a copy of the log."""
    handbook = os.environ.get("RISKBEAT_HANDBOOK")
    if not handbook:
        return [Row("average precision by week", None, "AP", note="RISKBEAT_HANDBOOK is not set")]
    spec = {
        "RISKBEAT_SPEC_PATH": str(ROOT / "features_handbook.yaml"),
        "RISKBEAT_LEGIT_AFTER_S": LABELS_ALL_COME,
    }
    with deployed(spec) as deployment:
        return measure_on(deployment, Path(handbook), QUICK_DAYS if quick else DAYS)


if __name__ == "__main__":
    main("handbook", measure)
