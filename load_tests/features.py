"""`python -m load_tests.features`: features, from the log to what a reader sees. docs/load.md.

Groups of rows can be run alone (`--only saturation,freshness`); the peers run only on demand
(`--peers`). Everything is bounded in time by the constants of the modules that it calls.
"""

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from load_tests.features_saturation import measure_saturation
from load_tests.features_servers import Servers, serving
from load_tests.report import Row, write

GROUPS = ("saturation", "freshness", "bytes", "entities", "labels", "takeover")


def main() -> None:
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as servers:
        rows, rate = measure_saturation(servers, Path(name), "--quick" in sys.argv)
        write("features", rows, Path("/tmp/load_peers/out.json"))


if __name__ == "__main__":
    main()
