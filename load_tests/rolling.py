"""Every process is put in another's place under load, as an upgrade does: what callers notice.

The lab's deployment (`load_tests.chaos`) is left alone for a while, then rolled some times. Answers
that took longer than promised are counted in both times, without what the asker itself was late.
"""

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from load_tests.chaos.check import ROLLED
from load_tests.chaos.faults import FAULTS
from load_tests.chaos.load import Told
from load_tests.chaos.servers import the_servers
from load_tests.chaos.stage import Stage, a_stage
from load_tests.report import Row

STEADY_S, QUICK_STEADY_S = 120.0, 20.0
ROLLS, QUICK_ROLLS = 4, 1
BETWEEN_S = 5.0
PROMISED_S = 0.1
Span = tuple[float, float]


def measure_rolling(quick: bool) -> Sequence[Row]:
    """Measure it."""
    with tempfile.TemporaryDirectory(prefix="riskbeat-load-") as name:
        folder = Path(name)
        home = folder / "deployment"
        home.mkdir()
        with the_servers(folder) as servers, a_stage(home, servers, 1, print) as stage:
            steady = _left_alone(stage, QUICK_STEADY_S if quick else STEADY_S)
            for _ in range(QUICK_ROLLS if quick else ROLLS):
                stage.strike(ROLLED, FAULTS[ROLLED])
                stage.crew.pause(BETWEEN_S)
            stage.load.stop()
            rolled = [(blow.begun_s, blow.healed_s + blow.back_s) for blow in stage.blows]
            return rows_of(stage.load.told, steady, rolled)


def _left_alone(stage: Stage, seconds: float) -> Span:
    begun_s = time.monotonic()
    stage.crew.pause(seconds)
    return begun_s, time.monotonic()


def rows_of(told: Told, steady: Span, rolled: Sequence[Span]) -> list[Row]:
    """Return the figures of what was asked within these times."""

    def took_within(spans: Sequence[Span]) -> np.ndarray:
        return np.array(
            [
                max(heard.took_s - told.own_delay_s(heard), 0.0)
                for heard in told.answers.values()
                if any(a <= heard.asked_at_s <= b for a, b in spans)
            ]
        )

    before, during = took_within([steady]), took_within(rolled)
    failed = len(told.faults) + len(told.lost)
    slow_before, slow = (float(np.mean(took > PROMISED_S)) for took in (before, during))
    words = f"{len(rolled)} times, {len(during)} answers; {len(before)} before"
    return [
        Row("rolling: requests that failed", failed, "requests", 0, 0, "lower", words),
        Row("rolling: answers over 100 ms, left alone", slow_before, "share", better="lower"),
        Row("rolling: answers over 100 ms", slow, "share", slow_before, slow_before, "lower"),
        Row("rolling: p99 left alone", float(np.quantile(before, 0.99)) * 1e3, "ms",
            better="lower"),
        Row("rolling: p99", float(np.quantile(during, 0.99)) * 1e3, "ms", better="lower"),
    ]  # fmt: skip
