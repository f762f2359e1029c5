"""`python -m load_tests.rebuild`: how fast `riskbeat rebuild` fills a store from the log.

The log waits in Kafka and the store is empty; CPU is counted from when the rebuild has opened all
its partitions until the last event is in the states, as for a worker (`features_saturation`).
"""

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

from load_tests.features_bench import EVENTS_PARTITIONS, START_TIMEOUT_S, bench
from load_tests.features_log import Log, fill, zipf_log
from load_tests.features_saturation import now_ms
from load_tests.features_servers import Servers, serving
from load_tests.report import Row, main

EVENTS, QUICK_EVENTS = 200_000, 40_000
RUNS, QUICK_RUNS = 3, 1
RUN_TIMEOUT_S = 300.0  # beyond the start
END_TIMEOUT_S = 120.0
MUST, AIM = 30_000, 100_000


def rebuild_once(servers: Servers, folder: Path, log: Log) -> tuple[float, int]:
    """Fill a topic, rebuild from it; return events per CPU-second, and events not kept.

    Raises:
        RuntimeError: The rebuild failed; with its last words.
    """
    with bench(servers, folder) as run:
        ends = fill(servers.kafka.address, run.topic("events.v1"), log, EVENTS_PARTITIONS)
        run.epoch = 1
        with servers.cores.for_subject():
            process = run.processes.start("rebuild")
        looks = run.looks(process, ends, "e", START_TIMEOUT_S + RUN_TIMEOUT_S)
        opened = next((look for look in looks if look.opened), looks[-1])
        last = looks[-1]
        if process.popen.wait(END_TIMEOUT_S):
            raise RuntimeError(f"rebuild failed: {process.log.read_text()[-2000:]}")
        spent_s = max(last.cpu_s - opened.cpu_s, 1e-9)
        return last.committed / spent_s, len(log) - last.committed


def measure(quick: bool) -> Sequence[Row]:
    """Rebuild some times; the median counts."""
    events = QUICK_EVENTS if quick else EVENTS
    with (
        tempfile.TemporaryDirectory(prefix="riskbeat-load-") as name,
        serving(Path(name)) as servers,
    ):
        runs = QUICK_RUNS if quick else RUNS
        found = [rebuild_once(servers, Path(name), zipf_log(events, now_ms())) for _ in range(runs)]
        words = servers.words
    each = ", ".join(f"{rate:.0f}" for rate, _ in found)
    note = f"{len(found)} runs ({each}) of {events} events over 48 h, Zipf 1/k; {words}"
    what = "rebuild: Kafka → Redis, 4 entities x 6 windows x 5 aggregates"
    rate = statistics.median(rate for rate, _ in found)
    lost = sum(lost for _, lost in found)
    return [
        Row(what, rate, "events/CPU-s", MUST, AIM, note=note),
        Row("rebuild: events not kept", lost, "events", 0, 0, "lower"),
    ]


if __name__ == "__main__":
    main("rebuild", measure)
