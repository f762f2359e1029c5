"""The lab's clock: a process that runs sees its time of day stepped, and its seconds go on."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from load_tests.chaos.clock import LOOKED_AT_S, Clock

TELL = """
import sys, time
for line in sys.stdin:
    print(time.time(), time.monotonic(), flush=True)
"""
AHEAD_S = 3600
MARGIN_S = 10.0


def test_a_running_process_sees_its_clock_stepped(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    with subprocess.Popen(
        [sys.executable, "-c", TELL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **clock.environment},
    ) as process:

        def asked() -> tuple[float, float]:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            time_of_day, seconds = process.stdout.readline().split()
            return float(time_of_day), float(seconds)

        before, began_s = asked()
        clock.step(AHEAD_S)
        until_s = time.monotonic() + LOOKED_AT_S + MARGIN_S
        after, ended_s = asked()
        while after - before < AHEAD_S / 2 and time.monotonic() < until_s:
            after, ended_s = asked()
    assert timedelta(seconds=after - before) > timedelta(seconds=AHEAD_S - 60)
    assert 0 <= ended_s - began_s < AHEAD_S / 2
    assert abs(before - datetime.now(UTC).timestamp()) < 60
