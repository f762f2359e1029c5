"""`python -m load_tests.operate`: what it takes to run the stack, and to watch it.

Groups can be run alone (`--only start,watching,rebuild,rolling`). How soon everything is back after
a kill is measured where things are killed: `load_tests.chaos`.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from load_tests.groups import add_only, chosen, measured
from load_tests.operate_start import measure_start
from load_tests.rebuild import measure as measure_rebuild
from load_tests.report import Row, write
from load_tests.rolling import measure_rolling
from load_tests.watching import measure_watching

NAME = "operate"
GROUPS: dict[str, Callable[[bool], Sequence[Row]]] = {
    "start": measure_start,
    "watching": measure_watching,
    "rebuild": measure_rebuild,
    "rolling": measure_rolling,
}


def main() -> int:
    """Run from the command line; return 1 when a must fails."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{NAME}")
    parser.add_argument("--quick", action="store_true", help="fewer runs, smaller logs")
    add_only(parser, tuple(GROUPS))
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    asked = parser.parse_args()
    groups = chosen(parser, asked.only, tuple(GROUPS))
    rows = measured(groups, lambda name: partial(GROUPS[name], asked.quick))
    return 0 if write(NAME, rows, asked.out) else 1


if __name__ == "__main__":
    sys.exit(main())
