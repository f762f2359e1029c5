"""`python -m load_tests.scoring`: decisions over HTTP, what they cost and how long they take.

One worker process on one core; the client (a process of its own), broker and store on the others.
Groups of rows can be run alone (`--only answers,latency`); other servers run only on demand
(`--peers`). docs/serving.md says how to read the figures.
"""

import argparse
import logging
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from load_tests.features_servers import Servers, serving
from load_tests.groups import add_only, chosen, measured
from load_tests.report import Row, write
from load_tests.scoring_curve import measure_curve
from load_tests.scoring_peers import measure_bare, measure_rivals
from load_tests.scoring_stage import Load, Site, explaining, site

GROUPS = ("answers", "latency", "curve", "batch", "swaps", "reasons", "bare")
PEERS = "peers"
SECONDS, QUICK_SECONDS = 12.0, 4.0
RATE = 2_000.0
SWAP_EVERY_S = 0.1
LIST_EVENTS = 500
LISTS = 4
FULL = 64
WARM_S = 15.0  # a broker that just started is slow until its code is compiled
SPARE = 0.6  # of the saturated rate, where 2 000/s is beyond it


@dataclass
class Session:
    """One invocation: what is asked, and what groups learn from each other."""

    servers: Servers
    folder: Path
    quick: bool
    out: Path
    made: Site | None = None
    per_cpu_s: float = 0.0
    per_s: float = 0.0
    bare_per_cpu_s: float = 0.0

    @property
    def seconds(self) -> float:
        """Measured seconds of one row."""
        return QUICK_SECONDS if self.quick else SECONDS

    @property
    def site(self) -> Site:
        """The site that most groups share."""
        assert self.made is not None
        return self.made

    def known_per_s(self) -> float:
        """Return the saturated rate of this very run."""
        if not self.per_s:
            self.answers()
        return self.per_s

    def answers(self) -> list[Row]:
        load = self.site.ask(self.seconds, connections=FULL, warm_s=WARM_S)
        self.per_cpu_s, self.per_s = load.per_cpu_s, load.per_s
        what = "decisions per worker CPU-second, full answer"
        note = f"{FULL} connections, closed loop: {_words(load)}"
        return [
            Row(what, load.per_cpu_s, "decisions/CPU-s", 7_000, 15_000, note=note),
            Row(f"{what}, its index process with it", load.per_cpu_all_s, "decisions/CPU-s"),
        ]

    def rate(self) -> float:
        """Return 2 000/s, or the highest round rate that this machine bears with some to spare."""
        return min(RATE, SPARE * self.known_per_s() // 100 * 100)

    def latency(self) -> list[Row]:
        rate = self.rate()
        load = self.site.ask(2 * self.seconds, rate=rate)
        bounds = {"p50": (3, 2), "p99": (20, 5), "p99.9": (60, 20)}
        what = f"at {rate:.0f}/s, open loop"
        if rate < RATE:
            what += f" ({RATE:.0f}/s is beyond {SPARE:.0%} of this machine's {self.per_s:.0f}/s)"
        return [
            Row(f"{what}: {name}", load.result.ms.get(name), "ms", must, aim, "lower", _words(load))
            for name, (must, aim) in bounds.items()
        ]

    def curve(self) -> list[Row]:
        return measure_curve(self.site, self.known_per_s(), self.quick, self.out)

    def batch(self) -> list[Row]:
        load = self.site.ask(
            self.seconds, path="/v1/decisions:batch", events=LIST_EVENTS, connections=LISTS
        )
        rate = load.per_cpu_s * LIST_EVENTS
        note = f"{LISTS} connections, lists of {LIST_EVENTS}: {_words(load)}"
        every = load.per_cpu_all_s * LIST_EVENTS
        return [
            Row("batch route", rate, "events/CPU-s", 20_000, 50_000, note=note),
            Row("batch route, its index process with it", every, "events/CPU-s"),
        ]

    def swaps(self) -> list[Row]:
        rate, seconds = self.rate(), self.seconds
        still = self.site.ask(seconds, rate=rate)
        before = self.site.page("riskbeat_weights_version")
        versions = self.site.versions(int(before) + 1, int((seconds + 2) / SWAP_EVERY_S))
        publishing = threading.Thread(
            target=self.site.publish, args=(int(before) + 1, versions, SWAP_EVERY_S)
        )
        publishing.start()
        moving = self.site.ask(seconds, rate=rate)
        publishing.join()
        swapped = self.site.page("riskbeat_weights_version") - before
        grows = moving.result.ms.get("p99", float("nan")) / still.result.ms["p99"]
        note = (
            f"{swapped:.0f} versions; p99 {still.result.ms['p99']:.2f} ms without; {_words(moving)}"
        )
        what = f"a swap every {SWAP_EVERY_S * 1000:.0f} ms at {rate:.0f}/s: p99 grows by"
        return [Row(what, grows, "x", 1.5, 1.1, "lower", note)]

    def reasons(self) -> list[Row]:
        policy = explaining(self.folder)
        if not self.per_cpu_s:
            self.answers()
        with site(
            self.servers, self.folder, self.quick, RISKBEAT_POLICY_PATH=str(policy)
        ) as explained:
            load = explained.ask(self.seconds, connections=FULL, warm_s=WARM_S)
        cost = self.per_cpu_s / load.per_cpu_s - 1
        note = f"{self.per_cpu_s:.0f} and {load.per_cpu_s:.0f} decisions/CPU-s; {_words(load)}"
        return [Row("reasons on every answer: cost", cost * 100, "%", 60, 20, "lower", note)]

    def bare(self) -> list[Row]:
        rows, self.bare_per_cpu_s = measure_bare(self.servers, self.folder)
        return rows

    def peers(self) -> list[Row]:
        rows = [] if self.bare_per_cpu_s else self.bare()
        return rows + measure_rivals(self.servers, self.folder, self.bare_per_cpu_s)


def _words(load: Load) -> str:
    ms = {name: round(value, 2) for name, value in load.result.ms.items()}
    return (
        f"{load.per_s:.0f}/s, ms {ms}, statuses {load.result.statuses}, "
        f"the client's own p99 {load.result.late_ms:.2f} ms"
    )


@contextmanager
def _shared(session: Session, groups: Sequence[str]) -> Iterator[None]:
    """Keep one site up for the groups that ask one."""
    if set(groups) <= {"bare", PEERS}:
        yield
        return
    with site(session.servers, session.folder, session.quick) as session.made:
        yield


def main() -> None:
    """Read the command line, measure, write; exit 1 when a must is broken."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.scoring")
    parser.add_argument("--quick", action="store_true", help="less history, shorter rows")
    add_only(parser, GROUPS)
    parser.add_argument("--peers", action="store_true", help="other servers, too (3 minutes)")
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
            session = Session(servers, folder, asked.quick, asked.out)
            with _shared(session, groups):
                rows = measured(groups, partial(getattr, session))
            rows.append(Row("where", None, "", note=servers.words))
    sys.exit(0 if write("scoring", rows, asked.out) else 1)


if __name__ == "__main__":
    main()
