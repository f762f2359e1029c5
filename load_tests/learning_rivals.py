"""Other learners, on the same rows: predictions as made, labels seven days late, AP and CPU.

Each runs in an environment of its own (`load_tests/features_peers.py` says where); its script in
`load_tests/peers` reads one .npz and writes its predictions and CPU seconds, of learning and
predicting alone.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from load_tests.features_peers import HERE, CannotRun, Peer, installed
from load_tests.learning_rows import DELAY_DAYS, SLICE_DAYS, LearningRows
from load_tests.report import Row
from models.evaluation import average_precision

RUN_TIMEOUT_S, QUICK_RUN_TIMEOUT_S = 420.0, 60.0
GRACE_S = 60.0


@dataclass(frozen=True)
class Rival:
    """One learner.

    Attributes:
        peer: Its script and packages.
        arguments: What the script is told beside the rows.
    """

    peer: Peer
    arguments: tuple[str, ...] = ()


def _peer(name: str, script: str, packages: tuple[str, ...], how: str) -> Peer:
    return Peer(name, script, packages, how, events=0)


NUMPY = "numpy==2.4.6"
RIVER = (NUMPY, "river==0.26.1")
RIVALS = (
    Rival(
        _peer(
            "River logistic regression",
            "learning_river.py",
            RIVER,
            "StandardScaler and LogisticRegression, row by row, missing values left out",
        ),
        ("--model", "logistic"),
    ),
    Rival(
        _peer(
            "River adaptive random forest",
            "learning_river.py",
            RIVER,
            "ten trees, row by row",
        ),
        ("--model", "forest"),
    ),
    Rival(
        _peer(
            "Vowpal Wabbit",
            "learning_vw.py",
            (NUMPY, "vowpalwabbit==9.11.9"),
            "logistic loss, its default adaptive, normalised, invariant updates; the CPU of "
            "reading its text format is in",
        )
    ),
    Rival(
        _peer(
            "XGBoost, refitted every week",
            "learning_xgboost.py",
            (NUMPY, "scikit-learn==1.7.2", "xgboost==3.2.0"),
            "300 trees, step .05, depth 5, on all rows whose labels are known, base_score .5",
        )
    ),
)


def measure_rivals(rows: LearningRows, folder: Path, quick: bool) -> list[Row]:
    """Return each rival's average precision and rows per CPU-second."""
    path = folder / "rows.npz"
    np.savez(path, X=rows.X, y=rows.y, day=rows.day)
    found = []
    for rival in RIVALS:
        found += _run(rival, rows, path, folder, quick)
    return found


def _run(rival: Rival, rows: LearningRows, path: Path, folder: Path, quick: bool) -> list[Row]:
    peer = rival.peer
    what = f"peers: {peer.name}"
    try:
        python, _ = installed(peer)
    except CannotRun as reason:
        note = f"could not be installed: {reason}"
        return [Row(f"{what}: average precision", None, "AP", note=note)]
    out, p_path = folder / "result.json", folder / "p.npy"
    limit_s = QUICK_RUN_TIMEOUT_S if quick else RUN_TIMEOUT_S
    done = subprocess.run(
        [
            *(str(python), str(HERE / peer.script), "--rows", str(path), "--out", str(out)),
            *("--p", str(p_path), "--delay-days", str(DELAY_DAYS)),
            *("--slice-days", str(SLICE_DAYS), "--limit-s", str(limit_s), *rival.arguments),
        ],
        capture_output=True,
        text=True,
        timeout=limit_s * 2 + GRACE_S,
        check=False,
    )
    if done.returncode:
        return [Row(f"{what}: average precision", None, "AP", note=done.stderr[-300:].strip())]
    told = json.loads(out.read_text())
    p = np.load(p_path)
    judged = rows.judged & ~np.isnan(p)
    reached = int(np.count_nonzero(~np.isnan(p)))
    note = f"{peer.could_not}; predicted {reached} of {len(p)} rows"
    if reached < len(p):
        note += f": its time of {limit_s:g} CPU-s was over, so its rows are not the others'"
    ap = average_precision(rows.y[judged], p[judged].astype(np.float64))
    return [
        Row(f"{what}: average precision", ap, "AP", note=note),
        Row(f"{what}: rows per CPU-second", reached / told["cpu_s"], "rows/CPU-s"),
    ]
