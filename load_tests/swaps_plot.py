"""times and resident bytes while versions were swapped → slopes, and a picture of both."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from load_tests.swaps_load import Answer

WINDOW_S = 5.0
SETTLING = 0.2
"""First part of a run that slopes leave out: caches fill, the allocator grows."""
MIB = 2**20


def p99_by_window(answers: Sequence[Answer]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the middles of the windows (s) and the 99th percentile in each (ms)."""
    due = np.array([answer.due_s for answer in answers])
    took_ms = np.array([answer.took_s for answer in answers]) * 1000
    windows = (due // WINDOW_S).astype(int)
    found = np.unique(windows)
    p99 = np.array([np.quantile(took_ms[windows == window], 0.99) for window in found])
    return (found + 0.5) * WINDOW_S, p99


def slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the least-squares slope after the settling; NaN of fewer than three points."""
    begin = int(len(x) * SETTLING)
    if len(x) - begin < 3:
        return float("nan")
    return float(np.polyfit(x[begin:], y[begin:], 1)[0])


def draw(
    answers: Sequence[Answer], rss: Sequence[tuple[float, int, int]], swaps: int, path: Path
) -> None:
    """Draw both against time; the file's ending chooses the format."""
    at_s, p99 = p99_by_window(answers)
    memory = np.array(rss, np.float64)
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    above.plot(at_s, p99, color="#2a6f97", marker=".")
    above.set_ylabel(f"p99 of answers, ms, by {WINDOW_S:g} s")
    above.set_ylim(bottom=0)
    below.plot(memory[:, 0], memory[:, 2] / MIB, color="#c1121f")
    below.set_ylabel("resident memory of the scorer, MiB")
    below.set_ylim(bottom=0)
    below.set_xlabel("seconds")
    per_s = swaps / max(memory[-1, 0], 1e-9)
    figure.suptitle(f"{swaps:,} versions swapped in under load, {per_s:.0f} a second", fontsize=12)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
