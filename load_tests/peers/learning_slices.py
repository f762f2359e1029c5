"""What every learner's script is told, and the turns of the clock that it follows."""

import argparse
import json
import time
from pathlib import Path

import numpy as np


def arguments(**more):
    """Return the command line's arguments; `more` are options with their choices."""
    parser = argparse.ArgumentParser()
    for name in ("rows", "out", "p"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("delay-days", "slice-days", "limit-s"):
        parser.add_argument(f"--{name}", type=float, required=True)
    for name, choices in more.items():
        parser.add_argument(f"--{name}", choices=choices, required=True)
    return parser.parse_args()


def turns(day, told):
    """Yield (rows to predict now, rows whose labels have become known since the last turn)."""
    edges = np.arange(0.0, day[-1] + 2 * told.slice_days, told.slice_days)
    now = np.searchsorted(day, edges)
    known = np.searchsorted(day + told.delay_days, edges)
    for turn in range(len(edges) - 1):
        before = known[turn - 1] if turn else 0
        yield range(now[turn], now[turn + 1]), range(before, known[turn])


def run(told, day, predict, learn):
    """Follow the clock until the log or the CPU time ends; write predictions and cost."""
    p = np.full(len(day), np.nan)
    start = time.process_time()
    for now, known in turns(day, told):
        if known:
            learn(known)
        if now:
            p[now.start : now.stop] = predict(now)
        if time.process_time() - start > told.limit_s:
            break
    finish(told, p, time.process_time() - start)


def finish(told, p, cpu_s):
    """Write what was found."""
    np.save(told.p, p)
    told.out.write_text(json.dumps({"cpu_s": cpu_s}))
