"""rows → one JSON file: the one form of every measurement of this project."""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Row:
    """One figure and what it is held against.

    Attributes:
        value: The figure, or None where it was not run (then `note` says why).
        must: The bound that fails the run; None where there is none.
        aim: The bound that we want to reach.
    """

    what: str
    value: float | None
    unit: str
    must: float | None = None
    aim: float | None = None
    better: Literal["higher", "lower"] = "higher"
    note: str = ""

    def holds(self) -> bool:
        """Whether the `must` is met; a row that was not run, or has no must, holds."""
        if self.value is None or self.must is None:
            return True
        if math.isnan(self.value):
            return False
        return self.value >= self.must if self.better == "higher" else self.value <= self.must


def machine() -> str:
    """Return what a reader needs to judge a figure: cores, processor, memory, system, Python."""
    info = Path("/proc/cpuinfo")
    cpu = platform.processor()
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":", 1)[1].strip() if names else cpu
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.release()}"
    return (
        f"{cores} cores, {cpu}, {memory_gib:.0f} GiB, {system}, Python {platform.python_version()}"
    )


def commit() -> str:
    """Return the commit that was measured, marked when the tree differs from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    dirty = subprocess.run(
        [*git, "status", "--porcelain", "--untracked-files=no"],
        capture_output=True,
        text=True,
        check=False,
    )
    return (head.stdout.strip() or "unknown") + ("-dirty" if dirty.stdout.strip() else "")


COMMIT = commit()
"""As it was when the measurement began: it may take long, and the tree may move on meanwhile."""


def write(name: str, rows: Sequence[Row], out: Path) -> bool:
    """Write the rows as JSON, print them as a table, and return whether every must holds."""
    document = {
        "name": name,
        "machine": machine(),
        "commit": COMMIT,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [asdict(row) for row in rows],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
    for row in rows:
        figure = "not run" if row.value is None else f"{row.value:.6g} {row.unit}"
        bounds = f"must {row.must}  aim {row.aim}" if row.must is not None else ""
        mark = "  " if row.holds() else "✗ "
        print(f"{mark}{row.what}: {figure}  {bounds} {row.note}".rstrip())
    return all(row.holds() for row in rows)


def main(name: str, measure: Callable[[bool], Sequence[Row]]) -> None:
    """Run a measurement from the command line; exit 1 when a must fails."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{name}")
    parser.add_argument("--quick", action="store_true", help="a reduced log, within 60 s")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    rows = measure(arguments.quick)
    sys.exit(0 if write(name, rows, arguments.out) else 1)
