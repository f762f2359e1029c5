"""`python -m load_tests.adaptation`: a fraud that nobody has seen begins; who notices, and when.

Generated payments are backfilled into vectors, and models follow the clock over them: what is
predicted now is judged later, and a label is learned `delay` after its event. At `ATTACK` of the
span a scenario begins that the log never held before. A payment is an alert when its score is among
the `ALERT_RATE` highest of the day before. Recall is taken over the frauds of a day and of the days
before it until there are `FRAUDS_MIN`.

Beside the learner that ships stand the same learner stopped at the attack (frozen), and gradient
boosted trees refitted every midnight on everything known by then.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import lightgbm
import numpy as np
import polars as pl
from numpy.typing import NDArray

from features.spec import Spec
from load_tests.adaptation_ours import Ours
from load_tests.learning_rows import BACKFILL_TIMEOUT_S
from load_tests.processes import run_riskbeat
from load_tests.report import ROOT, Row, write
from models.space import space_of

NAME = "adaptation"
EVENTS, QUICK_EVENTS = 100_000, 40_000
DAYS = 120.0
ATTACK = 0.52  # slow card testing: docs/generator.md
SCENARIO = "slow_card_testing"
SEED = 3
ALERT_RATE = 0.01
FRAUDS_MIN = 60
BACK_AT = 0.9
SLICE_DAYS = 1 / 24
DELAYS = {"0": 0.0, "1 h": 1 / 24, "1 d": 1.0, "7 d": 7.0}
BEFORE_DAYS = 14.0
TREES = {
    "objective": "binary",
    "learning_rate": 0.07,
    "max_depth": 6,
    "num_leaves": 31,
    "num_threads": 1,
    "verbose": -1,
    "seed": 1,
}
TREES_GROWN = 200
DAY_MS = 86_400_000

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Log:
    """Vectors in the order of their events; `new` marks the scenario that begins."""

    X: NDArray[np.float32]
    y: NDArray[np.uint8]
    new: NDArray[np.bool_]
    day: Floats
    spec: Spec


class Model(Protocol):
    """Something that follows the clock."""

    def predict(self, rows: slice) -> Floats:
        """Return scores of rows that have just happened."""

    def learn(self, rows: slice) -> None:
        """Take labels that have just become known."""


class Frozen:
    """A model that stops learning at a moment."""

    def __init__(self, model: Model, log: Log, until_day: float) -> None:
        self._model, self._log, self._until_day = model, log, until_day

    def predict(self, rows: slice) -> Floats:
        """Return scores by what was known."""
        return self._model.predict(rows)

    def learn(self, rows: slice) -> None:
        """Learn events up to the moment."""
        last = int(np.searchsorted(self._log.day, self._until_day))
        if rows.start < last:
            self._model.learn(slice(rows.start, min(rows.stop, last)))


class Nightly:
    """Boosted trees, refitted at midnight on every label known by then."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known = 0
        self._fitted_day = -1
        self._trees: lightgbm.Booster | None = None

    def predict(self, rows: slice) -> Floats:
        """Return scores of last night's trees."""
        today = int(self._log.day[rows.start])
        if today > self._fitted_day and self._log.y[: self._known].any():
            self._fitted_day = today
            known = lightgbm.Dataset(self._log.X[: self._known], self._log.y[: self._known])
            self._trees = lightgbm.train(TREES, known, num_boost_round=TREES_GROWN)
        if self._trees is None:
            return np.zeros(rows.stop - rows.start)
        return np.asarray(self._trees.predict(self._log.X[rows]))

    def learn(self, rows: slice) -> None:
        """Remember how much is known."""
        self._known = rows.stop


def ours(log: Log) -> Ours:
    """Return the learner that ships, before it has seen anything."""
    return Ours(log.X, log.y, log.day, space_of(log.spec))


def follow(log: Log, model: Model, delay_days: float) -> Floats:
    """Return the score that every row was given when it happened."""
    p = np.zeros(len(log.y))
    known = 0
    for start_day in np.arange(0.0, log.day[-1] + SLICE_DAYS, SLICE_DAYS):
        now = np.searchsorted(log.day, (start_day, start_day + SLICE_DAYS))
        ripe = int(np.searchsorted(log.day + delay_days, start_day))
        if ripe > known:
            model.learn(slice(known, ripe))
            known = ripe
        if now[1] > now[0]:
            p[now[0] : now[1]] = model.predict(slice(int(now[0]), int(now[1])))
    return p


def caught(log: Log, p: Floats) -> NDArray[np.bool_]:
    """Return which rows were alerts: among the highest by the scores of the day before."""
    today = log.day.astype(int)
    alert = np.zeros(len(p), bool)
    for day in range(1, today[-1] + 1):
        yesterday = p[today == day - 1]
        if len(yesterday):
            alert[today == day] = p[today == day] > np.quantile(yesterday, 1 - ALERT_RATE)
    return alert


@dataclass(frozen=True)
class Recovery:
    """How one model took it.

    Attributes:
        before: Recall in the days before the attack.
        lowest: Lowest recall after its beginning.
        days: From its beginning until recall was back; infinite where it never was.
        labels: Of the new fraud that had become known by then.
    """

    before: float
    lowest: float
    days: float
    labels: float


def recovery_of(log: Log, p: Floats, attack_day: float, delay_days: float) -> Recovery:
    """Return when recall was back at `BACK_AT` of its level before."""
    frauds = np.flatnonzero(log.y == 1)
    hit = caught(log, p)[frauds]
    day = log.day[frauds]
    earlier = (day >= attack_day - BEFORE_DAYS) & (day < attack_day)
    before = float(hit[earlier].mean())
    first = int(np.searchsorted(day, attack_day))
    lowest, back, fell = before, math.inf, False
    for last in range(first + FRAUDS_MIN, len(frauds) + 1):
        recall = float(hit[last - FRAUDS_MIN : last].mean())
        lowest = min(lowest, recall)
        fell = fell or recall < BACK_AT * before
        if fell and recall >= BACK_AT * before:
            back = float(day[last - 1]) - attack_day
            break
    known = log.new & (log.day + delay_days <= attack_day + back)
    return Recovery(before, lowest, back, float(known.sum()) if back < math.inf else math.inf)


def rows_of(who: str, delay: str, found: Recovery) -> list[Row]:
    """Return the figures of one model at one delay."""
    what = f"labels after {delay}: {who}"
    note = f"recall before {found.before:.2f}, lowest {found.lowest:.2f}"
    if math.isinf(found.days):
        note += f"; never back at {BACK_AT:.0%} of it"
        return [Row(f"{what}: days until recall is back", None, "days", better="lower", note=note)]
    return [
        Row(f"{what}: days until recall is back", found.days, "days", better="lower", note=note),
        Row(f"{what}: labels of the new fraud by then", found.labels, "labels", better="lower"),
    ]


def measure(quick: bool, delays: Sequence[str]) -> list[Row]:
    """Generate, backfill, and let every model follow the clock with every delay."""
    with tempfile.TemporaryDirectory(prefix="riskbeat-adaptation-") as folder:
        log = read_log(Path(folder), QUICK_EVENTS if quick else EVENTS)
    attack_day = float(log.day[log.new].min())
    rows = [
        Row("payments", len(log.y), "payments", note=f"{int(log.new.sum())} are {SCENARIO}, from "
            f"day {attack_day:.1f} on; {int(log.y.sum())} frauds in all"),
    ]  # fmt: skip
    for delay in delays:
        models: dict[str, Callable[[], Model]] = {
            "riskbeat": lambda: ours(log),
            "the same, frozen at the attack": lambda: Frozen(ours(log), log, attack_day),
            "boosted trees, refitted every night": lambda: Nightly(log),
        }
        for who, make in models.items():
            start_s = time.process_time()
            p = follow(log, make(), DELAYS[delay])
            found = recovery_of(log, p, attack_day, DELAYS[delay])
            rows += rows_of(who, delay, found)
            print(f"{delay}, {who}: {time.process_time() - start_s:.0f} CPU-s", flush=True)
    return rows


def read_log(folder: Path, events: int) -> Log:
    """Generate payments and backfill their vectors."""
    source, vectors = folder / "payments.parquet", folder / "vectors.parquet"
    for arguments in (
        ("generate", str(source), "--events", str(events), "--days", str(DAYS), "--seed",
         str(SEED), "--no-progress"),
        ("backfill", str(source), "--mapping", "generator", "--out", str(vectors)),
    ):  # fmt: skip
        run_riskbeat({}, *arguments, timeout_s=BACKFILL_TIMEOUT_S)
    truth = pl.read_parquet(source).select("event_id", "is_fraud", "scenario")
    frame = pl.read_parquet(vectors).join(truth, on="event_id", maintain_order="left")
    spec = Spec.load(ROOT / "features.yaml")
    names = [name for name, kind in frame.schema.items() if kind == pl.Float32]
    at_ms = frame["event_time"].dt.epoch("ms").to_numpy()
    return Log(
        np.ascontiguousarray(frame.select(names).to_numpy(), np.float32),
        frame["is_fraud"].to_numpy().astype(np.uint8),
        (frame["scenario"] == SCENARIO).fill_null(value=False).to_numpy(),
        (at_ms - at_ms[0]) / DAY_MS,
        spec,
    )


def main() -> int:
    """Run from the command line; return 1 when a must fails."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{NAME}")
    parser.add_argument("--quick", action="store_true", help="fewer payments")
    parser.add_argument("--delays", nargs="+", choices=tuple(DELAYS), default=tuple(DELAYS))
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    return 0 if write(NAME, measure(arguments.quick, arguments.delays), arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
