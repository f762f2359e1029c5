"""`python -m load_tests.features`: features, from the log to what a reader sees. docs/load.md.

Groups of rows can be run alone (`--only saturation,freshness`); the peers run only on demand
(`--peers`). Everything is bounded in time by the constants of the modules that it calls, and
nothing is left running: not servers, not workers, not peers.
"""

import argparse
import logging
import signal
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from load_tests.features_freshness import measure_freshness
from load_tests.features_labels import measure_labels
from load_tests.features_peers import measure_peers
from load_tests.features_saturation import Rates, measure_saturation
from load_tests.features_servers import Servers, serving
from load_tests.features_sizes import measure_bytes, measure_entities
from load_tests.features_takeover import measure_takeover
from load_tests.groups import add_only, chosen, measured
from load_tests.report import Row, write

GROUPS = ("saturation", "freshness", "bytes", "entities", "labels", "takeover")
PEERS = "peers"


@dataclass
class Session:
    """One invocation: what is asked, and what groups learn from each other.

    Attributes:
        rates: Of a saturated worker; measured on a smaller log where that group does not run.
    """

    servers: Servers
    folder: Path
    quick: bool
    largest: int | None
    rates: Rates | None = None

    def known_rates(self) -> Rates:
        """Return the saturated rates of this very run."""
        if self.rates is None:
            _, self.rates = measure_saturation(self.servers, self.folder, quick=True)
        return self.rates

    def saturation(self) -> list[Row]:
        rows, self.rates = measure_saturation(self.servers, self.folder, self.quick)
        return rows

    def freshness(self) -> list[Row]:
        return measure_freshness(self.servers, self.folder, self.quick, self.known_rates().per_s)

    def bytes(self) -> list[Row]:
        return measure_bytes(self.servers, self.folder)

    def entities(self) -> list[Row]:
        return measure_entities(self.servers, self.folder, self.quick, self.largest)

    def labels(self) -> list[Row]:
        return measure_labels(self.servers, self.folder, self.quick)

    def takeover(self) -> list[Row]:
        return measure_takeover(self.servers, self.folder, self.quick)

    def peers(self) -> list[Row]:
        per_cpu_s = self.known_rates().per_cpu_s
        return measure_peers(self.servers, self.folder, self.quick, per_cpu_s)


def main() -> None:
    """Read the command line, measure, write; exit 1 when a must is broken."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.features")
    parser.add_argument("--quick", action="store_true", help="smaller logs, fewer runs")
    add_only(parser, GROUPS)
    parser.add_argument("--peers", action="store_true", help="other systems, too (15 minutes)")
    parser.add_argument("--largest", type=int, help="most entities (default 10 M; quick 1 M)")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    asked = parser.parse_args()
    groups = chosen(parser, asked.only, (*GROUPS, PEERS))
    if asked.peers and PEERS not in groups:
        groups.append(PEERS)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # probes of a broker that starts
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # stops what was started, too
    with tempfile.TemporaryDirectory(prefix="riskbeat-load-") as name:
        folder = Path(name)
        with serving(folder) as servers:
            session = Session(servers, folder, asked.quick, asked.largest)
            rows = measured(groups, partial(getattr, session))
    sys.exit(0 if write("features", rows, asked.out) else 1)


if __name__ == "__main__":
    main()
