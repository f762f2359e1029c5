"""`python -m load_tests.learning_handbook`: one pass over the Handbook's log, and nightly batch.

The shipped ensemble goes once over recorded vectors, from the first day on, day T scored by labels
of the days up to T-8 (`load_tests/learning_pass.py`). The same vectors are given to XGBoost,
fitted anew each night (`load_tests/learning_peers.py`; the extra `peers`). Figures are those of
the book's four test weeks, and differences are paired by week. All of it is done twice: on the
features that ship for this log, and on the book's own fifteen.

`RISKBEAT_HANDBOOK` names the log. `RISKBEAT_VECTORS` names a folder in which `ours.parquet` and
`book.parquet` hold its vectors, by `riskbeat backfill` or recorded from decisions; what is not
there is backfilled first. Beside them the nightly scores are kept (`.nightly.npz`), since they
take the longest and depend on the vectors alone.
"""

import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from load_tests.handbook_unseen import KNOWN, unseen_report, unseen_rows
from load_tests.handbook_weeks import (
    FIGURES,
    TEST_WEEKS,
    WEEK,
    Log,
    figures_of,
    read_log,
)
from load_tests.learning_pass import Pass, one_pass
from load_tests.learning_peers import Nightly, nightly
from load_tests.report import ROOT, Row, main

SEEDS = (1, 2, 3, 4, 5)
QUICK_WEEKS = (14,)
MUST = {"average precision": 0.69, "AUC": 0.876, "card precision@100": 0.305}
AIM = {"average precision": 0.73, "AUC": None, "card precision@100": 0.312}
CPU_SHARE_MUST = 0.2


@dataclass(frozen=True)
class Kind:
    """One way to make vectors of the log.

    Attributes:
        name: Of its Parquet file.
        spec: Its declaration.
        prefix: Of its rows.
        bound: Whether the bounds are asked of it.
    """

    name: str
    spec: Path
    prefix: str
    bound: bool


KINDS = (
    Kind("ours", ROOT / "features_handbook.yaml", "", bound=True),
    Kind("book", ROOT / "load_tests" / "book_features.yaml", "book's features: ", bound=False),
)


def weekly(log: Log, logit: NDArray[np.float32], weeks: Sequence[int]) -> NDArray[np.float64]:
    """Return the figures of each week, shape (weeks, figures)."""
    return np.array([figures_of(log, logit, week) for week in weeks])


def spread(values: Sequence[float]) -> float:
    """Return the sample's standard deviation; 0 of one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def rows_of(
    log: Log, passes: Sequence[Pass], batch: Nightly, weeks: Sequence[int], quick: bool
) -> list[Row]:
    """Return what is reported of all passes."""
    ours = np.array([weekly(log, one.logit, weeks) for one in passes])  # seeds, weeks, figures
    theirs = weekly(log, batch.logit, weeks)
    found = []
    for column, figure in enumerate(FIGURES):
        seeds = ours[:, :, column].mean(axis=1)
        by_week = ", ".join(f"{value:.3f}" for value in ours[:, :, column].mean(axis=0))
        told = f"sd {spread(seeds.tolist()):.4f} over {len(seeds)} seeds; by week {by_week}"
        must = None if quick else MUST[figure]
        found.append(Row(f"ensemble: {figure}", seeds.mean(), figure, must, AIM[figure], note=told))
        by_week = ", ".join(f"{value:.3f}" for value in theirs[:, column])
        mean = float(theirs[:, column].mean())
        found.append(Row(f"XGBoost nightly: {figure}", mean, figure, note=f"by week {by_week}"))
        apart = (ours[:, :, column].mean(axis=0) - theirs[:, column]).tolist()
        note = f"paired by week: {', '.join(f'{x:+.4f}' for x in apart)}; sd {spread(apart):.4f}"
        mean = statistics.mean(apart)
        found.append(Row(f"ensemble above XGBoost: {figure}", mean, figure, None, 0.0, note=note))
    for index, name in enumerate(passes[0].predictors):
        alone = np.array([weekly(log, one.each[:, index], weeks).mean(axis=0) for one in passes])
        for column, figure in enumerate(FIGURES):
            note = f"sd {spread(alone[:, column].tolist()):.4f} over seeds"
            value = float(alone[:, column].mean())
            found.append(Row(f"{name} alone: {figure}", value, figure, note=note))
    return found + cpu_rows(passes, batch, weeks, quick)


def cpu_rows(
    passes: Sequence[Pass], batch: Nightly, weeks: Sequence[int], quick: bool
) -> list[Row]:
    """Return what both took, learning and predicting only."""
    ours = [one.cpu_s for one in passes]
    days = weeks[-1] + WEEK
    mean, share = statistics.mean(ours), statistics.mean(ours) / batch.cpu_s
    note = f"one pass over {days} days; sd {spread(ours):.1f}"
    told = f"the whole pass against {batch.days} nights of the test weeks only"
    must = None if quick else CPU_SHARE_MUST
    return [
        Row("ensemble: CPU", mean, "CPU-s", better="lower", note=note),
        Row("XGBoost nightly: CPU", batch.cpu_s, "CPU-s", better="lower", note=batch.note),
        Row("ensemble: CPU for one of XGBoost's", share, "1", must, None, "lower", told),
    ]


def backfilled(handbook: str, kind: Kind, out: Path) -> None:
    """Make the vectors by a declaration."""
    command = [
        *(str(Path(sys.executable).parent / "riskbeat"), "backfill", handbook),
        *("--mapping", "handbook", "--spec", str(kind.spec)),
        *("--legit-after", "0s", "--out", str(out), "--no-progress"),
    ]
    subprocess.run(command, check=True, capture_output=True)


def measure_on(handbook: str, vectors: Path, quick: bool) -> list[Row]:
    """Run all passes and the nightly fits on one set of vectors."""
    log = read_log(Path(handbook), vectors)
    weeks = QUICK_WEEKS if quick else TEST_WEEKS
    days = range(weeks[0], weeks[-1] + WEEK)
    assert all(math.isfinite(figures_of(log, log.X[:, 0], week)[0]) for week in weeks)
    passes = []
    for seed in SEEDS[:1] if quick else SEEDS:
        passes.append(one_pass(log, seed, weeks[-1] + WEEK))
        print(f"{vectors.stem}, seed {seed}: {passes[-1].cpu_s:.1f} CPU-s", file=sys.stderr)
    batch = nightly(log, days, vectors.with_suffix(".nightly.npz"))
    shape = f"{len(log.y)} events, {len(log.names)} features"
    head = Row("vectors", len(log.y), "rows", note=shape)
    found = [head, *rows_of(log, passes, batch, weeks, quick)]
    if KNOWN in log.names:
        unseen = unseen_rows(Path(handbook), log)
        logits = [one.logit for one in passes]
        found += unseen_report(log, "ensemble", logits, unseen, weeks)
        found += unseen_report(log, "XGBoost nightly", [batch.logit], unseen, weeks)
    return found


def named(kind: Kind, row: Row) -> Row:
    """Return a row under its kind's name; without bounds where none are asked."""
    if kind.bound:
        return row
    return replace(row, what=kind.prefix + row.what, must=None, aim=None)


def measure(quick: bool) -> Sequence[Row]:
    """Measure, where there is a copy of the log."""
    handbook, kept = os.environ.get("RISKBEAT_HANDBOOK"), os.environ.get("RISKBEAT_VECTORS")
    if not handbook:
        return [Row("ensemble: average precision", None, "AP", note="RISKBEAT_HANDBOOK is not set")]
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            vectors = Path(kept or folder) / f"{kind.name}.parquet"
            if not vectors.exists():
                backfilled(handbook, kind, vectors)
            found += [named(kind, row) for row in measure_on(handbook, vectors, quick)]
    return found


if __name__ == "__main__":
    main("learning_handbook", measure)
