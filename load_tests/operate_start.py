"""`docker compose up --wait`, with its images built, until the first decision is answered.

The project is new each time: no volume, no topic, no key, no version. The first answer may be made
without a learned version, and says so; it is held against its features being whole.
"""

import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from load_tests.report import Row
from tests.live.compose_stack import UP_TIMEOUT_S, a_stack

RUNS, QUICK_RUNS = 3, 1
MUST_S, AIM_S = 60, 30


def start_once(folder: Path) -> float:
    """Bring a new stack up; return seconds until a decision was answered."""
    with a_stack(folder) as stack:
        stack.compose("build", timeout_s=UP_TIMEOUT_S)
        begun_s = time.monotonic()
        stack.compose("up", "--wait", timeout_s=UP_TIMEOUT_S)
        stack.decide("first", "tok_1", datetime.now(UTC).isoformat())
        return time.monotonic() - begun_s


def measure_start(quick: bool) -> list[Row]:
    """Measure some times; not run where there is no Docker."""
    what = "docker compose up --wait, images built → first decision"
    found = []
    for _ in range(QUICK_RUNS if quick else RUNS):
        with tempfile.TemporaryDirectory(prefix="riskbeat-load-") as name:
            try:
                found.append(start_once(Path(name)))
            except pytest.skip.Exception as reason:
                return [Row(what, None, "s", MUST_S, AIM_S, "lower", f"not run: {reason}")]
    each = ", ".join(f"{seconds:.1f}" for seconds in found)
    note = f"median of {each}; a new project each time"
    return [Row(what, statistics.median(found), "s", MUST_S, AIM_S, "lower", note)]
