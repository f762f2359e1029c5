"""`python -m load_tests.evidence`: measure what the README shows, and write it there."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Sequence

from load_tests.evidence.chosen import CHOSEN, Chosen
from load_tests.evidence.table import FOLDER, placed, table_of
from load_tests.report import ROOT

README = ROOT / "README.md"


def main() -> None:
    """Do what is asked; exit 1 where a measurement broke a must or the README is not of now."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.evidence", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="run every measurement (hours)")
    parser.add_argument("--only", default="", help="of the files, separated by commas")
    parser.add_argument("--write", action="store_true", help="write the README's table")
    asked = parser.parse_args()
    names = [name for name in asked.only.split(",") if name]
    unknown = set(names) - {one.file for one in CHOSEN}
    if unknown:
        known = ", ".join(one.file for one in CHOSEN)
        parser.error(f"--only: unknown {', '.join(sorted(unknown))}; known: {known}")
    broken = measure([one for one in CHOSEN if not names or one.file in names] * asked.measure)
    text = README.read_text()
    fresh = placed(text, table_of(CHOSEN))
    if asked.write:
        README.write_text(fresh)
    elif fresh != text:
        sys.exit("the README's figures are not those of docs/evidence: --write")
    sys.exit(f"a must was broken, or nothing was measured: {', '.join(broken)}" if broken else 0)


def measure(chosen: Sequence[Chosen]) -> list[str]:
    """Run measurements one after the other; return those that did not end with 0."""
    broken = []
    for one in chosen:
        out = FOLDER / f"{one.file}.json"
        command = [sys.executable, "-m", *shlex.split(f"load_tests.{one.arguments}")]
        print(f"== {one.file}", flush=True)
        if subprocess.run([*command, "--out", str(out)], cwd=ROOT, check=False).returncode:
            broken.append(one.file)
    return broken


if __name__ == "__main__":
    main()
