"""A log → the vectors that learners are measured on, as `riskbeat backfill` writes them.

The Handbook's transactions where `RISKBEAT_HANDBOOK` names a copy, else generated payments. A row's
label becomes known `DELAY_DAYS` after its event, for all learners alike.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from load_tests.processes import run_riskbeat
from load_tests.report import ROOT

DELAY_DAYS = 7.0
SLICE_DAYS = 0.25
EVENTS, QUICK_EVENTS = 600_000, 60_000
GENERATED_EVENTS, GENERATED_DAYS = 200_000, 120.0
BACKFILL_TIMEOUT_S = 1_200.0
DAY_MS = 86_400_000


@dataclass(frozen=True, eq=False)
class LearningRows:
    """Rows in the order of their events.

    Attributes:
        X: float32, shape (m, n); NaN = missing.
        y: uint8, shape (m,).
        day: Event time in days since the first row, float64.
        source: For a reader of the figures.
    """

    X: NDArray[np.float32]
    y: NDArray[np.uint8]
    day: NDArray[np.float64]
    source: str

    @property
    def judged(self) -> NDArray[np.bool_]:
        """The rows that count: the later half of the time."""
        return np.asarray(self.day >= self.day[-1] / 2)

    def slices(self) -> Iterator[tuple[slice, slice]]:
        """Yield (rows to predict now, rows whose labels have become known since the last turn)."""
        edges = np.arange(0.0, self.day[-1] + 2 * SLICE_DAYS, SLICE_DAYS)
        now = np.searchsorted(self.day, edges)
        known = np.searchsorted(self.day + DELAY_DAYS, edges)
        for turn in range(len(edges) - 1):
            before = known[turn - 1] if turn else 0
            yield slice(now[turn], now[turn + 1]), slice(before, known[turn])


def read_rows(folder: Path, quick: bool) -> LearningRows:
    """Return the rows, backfilled into `folder`."""
    handbook = os.environ.get("RISKBEAT_HANDBOOK")
    out = folder / "vectors.parquet"
    if handbook:
        events = QUICK_EVENTS if quick else EVENTS
        spec = ("--spec", str(ROOT / "features_handbook.yaml"))
        _riskbeat("backfill", handbook, "--mapping", "handbook", *spec, "--out", str(out),
                  "--legit-after", "0s", "--limit", str(events))  # fmt: skip
        return _read(out, f"Handbook, first {events} rows, features_handbook.yaml")
    log = folder / "payments.parquet"
    events = QUICK_EVENTS if quick else GENERATED_EVENTS
    days = str(GENERATED_DAYS)
    _riskbeat("generate", str(log), "--events", str(events), "--days", days, "--no-progress")
    _riskbeat("backfill", str(log), "--mapping", "generator", "--out", str(out))
    return _read(out, f"{events} generated payments, features.yaml")


def _read(path: Path, source: str) -> LearningRows:
    frame = pl.read_parquet(path)
    names = [name for name, kind in frame.schema.items() if kind == pl.Float32]
    at_ms = frame["event_time"].dt.epoch("ms").to_numpy()
    y = (frame["label"] == "fraud").fill_null(value=False).to_numpy().astype(np.uint8)
    X = np.ascontiguousarray(frame.select(names).to_numpy(), np.float32)
    return LearningRows(X, y, (at_ms - at_ms[0]) / DAY_MS, source)


def _riskbeat(*words: str) -> None:
    run_riskbeat({}, *words, timeout_s=BACKFILL_TIMEOUT_S)
