"""`python -m load_tests.learning`: how fast learners learn, what a version costs, and the peers.

- `rates`: rows learned per CPU-second by each learner that ships, by the size of a batch; 30
  features. The ensemble that ships stands beside them.
- `publish`: bytes and milliseconds of a version, whole and as a delta (`load_tests/weights.py`).
- `peers`: other learners on the same rows as ours, labels seven days late: average precision of
  the later half, and rows per CPU-second, of learning and predicting alone.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from load_tests.adaptation_ours import Ours
from load_tests.groups import add_only, chosen, measured
from load_tests.learning_rivals import measure_rivals
from load_tests.learning_rows import LearningRows, read_rows
from load_tests.report import Row, write
from load_tests.weights import measure as measure_publish
from models.evaluation import average_precision
from models.learner import Context, Learner, Rows, Space
from models.learners import make
from models.memory import Memory
from models.scaling import Normaliser
from models.taught import Taught

NAME = "learning"
FEATURES = 30
BATCHES = (16, 64, 256)
LEARNERS = {
    "network, as shipped": ("network", {}),
    "network, new rows only": ("network", {"rehearsed_per_row": 0, "rehearsed_min": 0}),
    "boosted": ("boosted", {}),
    "logistic": ("logistic", {}),
    "hoeffding": ("hoeffding", {}),
    "forest": ("forest", {}),
}
RATE_ROWS, QUICK_RATE_ROWS = 60_000, 6_000
SLOW_SHARE = 10
SLOW = ("hoeffding", "forest")
FRAUD_RATE = 0.02
ROW_MS = 43_200  # 60 000 rows are 30 days
WARM_SHARE = 0.2
LANE = "delayed"


def some_rows(count: int, seed: int = 1) -> Taught:
    """Return labelled vectors whose first features tell frauds apart; a twentieth is missing."""
    rng = np.random.default_rng(seed)
    X = rng.lognormal(1, 1, (count, FEATURES)).astype(np.float32)
    y = (rng.random(count) < FRAUD_RATE).astype(np.uint8)
    X[y == 1, :4] *= 3
    X[rng.random(X.shape) < 0.05] = np.nan
    ids = rng.integers(0, 2**63, count).astype(np.uint64)
    return Taught(X, y, np.ones(count, np.float32), ids, np.arange(count) * np.int64(ROW_MS))


def rate_of(name: str, options: dict[str, float | int | str], batch: int, count: int) -> float:
    """Return rows learned per CPU-second of the process, once a fifth has been learned."""
    memory, normaliser = Memory(FEATURES), Normaliser(FEATURES, [])
    space = Space("0" * 64, tuple(f"f{i}" for i in range(FEATURES)))
    context = Context(space, LANE, 1, memory, normaliser.transform, options)
    learner: Learner = make(name, context)
    taught = some_rows(count)
    normaliser.observe(taught.X)
    rows: Rows = taught.normalised(normaliser.transform)
    warm = int(count * WARM_SHARE) // batch * batch
    began = 0.0
    for start in range(0, count, batch):
        if start == warm:
            began = time.process_time()
        part = rows.part(slice(start, start + batch))
        learner.learn_many(part)
        memory.append(part.X, part.y, part.w, part.ids, part.at_ms)
        learner.advance(int(part.at_ms[-1]))
    return (count - warm) / (time.process_time() - began)


def measure_rates(quick: bool) -> list[Row]:
    """Return the rows of every learner."""
    count = QUICK_RATE_ROWS if quick else RATE_ROWS
    found = []
    for what, (name, options) in LEARNERS.items():
        rows = count // SLOW_SHARE if name in SLOW else count
        for batch in BATCHES:
            rate = rate_of(name, dict(options), batch, rows)
            aim = 50_000 if what == "network, new rows only" and batch >= 64 else None
            note = f"{rows} rows of {FEATURES} features, fits of trees included"
            found.append(Row(f"{what}: learned in batches of {batch}", rate, "rows/CPU-s",
                             None, aim, note=note))  # fmt: skip
    return found


def measure_ours(rows: LearningRows) -> list[Row]:
    """Let the ensemble that ships see, predict, and learn the peers' rows by the peers' clock."""
    names = tuple(f"f{i}" for i in range(rows.X.shape[1]))
    model = Ours(rows.X, rows.y, rows.day, Space("0" * 64, names))
    p = np.zeros(len(rows.y))
    began = time.process_time()
    for now, known in rows.slices():
        if known.stop > known.start:
            model.learn(known)
        if now.stop > now.start:
            p[now] = model.predict(now)
    spent_s = time.process_time() - began
    judged = rows.judged
    note = f"{rows.source}; one lane, all its members"
    return [
        Row("peers: riskbeat's ensemble: average precision",
            average_precision(rows.y[judged], p[judged]), "AP", note=note),
        Row("peers: riskbeat's ensemble: rows per CPU-second", len(p) / spent_s, "rows/CPU-s"),
    ]  # fmt: skip


def measure_peers(quick: bool) -> list[Row]:
    """Return ours and the others' on the same rows."""
    with tempfile.TemporaryDirectory(prefix="riskbeat-learning-") as folder:
        rows = read_rows(Path(folder), quick)
        return [*measure_ours(rows), *measure_rivals(rows, Path(folder), quick)]


GROUPS: dict[str, Callable[[bool], Sequence[Row]]] = {
    "rates": measure_rates,
    "publish": measure_publish,
    "peers": measure_peers,
}


def main() -> int:
    """Run from the command line; return 1 when a must fails."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{NAME}")
    parser.add_argument("--quick", action="store_true", help="fewer rows")
    add_only(parser, tuple(GROUPS))
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    groups = chosen(parser, arguments.only, tuple(GROUPS))
    rows = measured(groups, lambda name: partial(GROUPS[name], arguments.quick))
    return 0 if write(NAME, rows, arguments.out) else 1


if __name__ == "__main__":
    sys.exit(main())
