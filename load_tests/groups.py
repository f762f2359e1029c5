"""Groups of rows that can be measured alone: which are asked for, and what becomes of each."""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from load_tests.report import Row

Measure = Callable[[], Sequence[Row]]


def add_only(parser: argparse.ArgumentParser, groups: Sequence[str]) -> None:
    """Let the command line choose among groups; all of them where it does not."""
    parser.add_argument("--only", default=",".join(groups), help=f"of {', '.join(groups)}")


def chosen(parser: argparse.ArgumentParser, only: str, known: Sequence[str]) -> list[str]:
    """Return the groups that `--only` names; exit 2 at one that is not known."""
    groups = [name for name in only.split(",") if name]
    if unknown := [name for name in groups if name not in known]:
        parser.error(f"--only: unknown {', '.join(unknown)}; known: {', '.join(known)}")
    return groups


def measured(groups: Sequence[str], measure_of: Callable[[str], Measure]) -> list[Row]:
    """Measure groups one after the other; one that fails is a row that breaks its must."""
    rows: list[Row] = []
    for name in groups:
        start = time.monotonic()
        try:
            found = measure_of(name)()
        except (RuntimeError, TimeoutError, OSError) as error:
            note = f"{type(error).__name__}: {error}"
            found = [Row(f"{name}: measured", float("nan"), "", 1, 1, note=note)]
        for row in found:
            print(json.dumps(asdict(row)), file=sys.stderr)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
        rows += found
    return rows
