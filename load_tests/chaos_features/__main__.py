"""`python -m load_tests.chaos_features --kills N --seed N`: what is left of a log after all that.

Featurize workers are killed, frozen and woken, the broker is stopped and killed, the store loses
its last seconds, while events flow. Then the store is drained, every state is compared byte for
byte with a plain recomputation of the log, and the log runs through one fresh worker once more.

The seed draws the load and what is done to whom; when it hits is up to the machine.
"""

import argparse
import logging
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from load_tests.chaos_features.attack import Verdict, attack, judge
from load_tests.chaos_features.servers import a_kafka, a_lossy_redis
from load_tests.chaos_features.stage import Stage, a_stage
from load_tests.chaos_features.workers import NO_NAME
from load_tests.processes import stopped_by_signals
from load_tests.report import Row, write
from tests.conftest import kafka_answers
from tests.live.servers import Unavailable, wait_until

NAME = "chaos_features"
TOPIC_PREFIX = "chaos."
KILLS, QUICK_KILLS = 200, 10
NOT_RUN = "not run"
SHOWN = 3


def rows_of(stage: Stage, verdict: Verdict, seconds: float) -> list[Row]:
    """Return the figures."""
    ends = stage.workers.ends
    nameless = sum(count for name, count in ends.items() if name.startswith(NO_NAME))
    ended_badly = sum(status != 0 for status in verdict.statuses)
    lost_s = sum(loss.seconds for loss in stage.losses)
    commits, states = sum(x.commits for x in stage.losses), sum(x.states for x in stage.losses)
    shown = ", ".join(str(key) for key in verdict.wrong[:SHOWN])
    return [
        Row("kill -9 of workers", stage.kills, "kills", note="two and three workers"),
        Row("broker restarts", stage.broker_restarts, "restarts", note=stage.kafka.what),
        Row("store crashes that lost what was acknowledged", len(stage.losses), "crashes"),
        Row("lost by the store", lost_s, "s", note=f"{commits} commits, {states} states"),
        Row("store crashes that lost no commit", sum(not x.commits for x in stage.losses), "", 0, 0,
            "lower"),
        Row("zombies woken", len(stage.zombies), "zombies"),
        Row("zombies whose write was refused", sum(stage.zombies), "zombies",
            min(1, len(stage.zombies)), len(stage.zombies)),
        Row("writes refused in all", stage.workers.refused, "writes",
            note="zombies', and those after the store's losses"),
        Row("workers that ended themselves", sum(ends.values()), "ends", note=str(dict(ends))),
        Row("… without a name, or not with 0 when asked", nameless + ended_badly, "ends", 0, 0,
            "lower"),
        Row("events", verdict.events, "events", note=verdict.what_counted),
        Row("drained in time", float(verdict.drained), "", 1, 1),
        Row("states compared", verdict.states, "states"),
        Row("states that differ from the recomputation", len(verdict.wrong), "states", 0, 0,
            "lower", shown),
        Row("rejected records without their dead letter", verdict.letters, "letters", 0, 0,
            "lower"),
        Row("states that differ in a second run", len(verdict.wrong_again), "states", 0, 0,
            "lower", "one fresh worker, another interleaving"),
        *takeover_rows(stage),
        Row("duration", seconds, "s"),
    ]  # fmt: skip


def takeover_rows(stage: Stage) -> list[Row]:
    """Return how long dead workers' partitions waited for the first commit by another."""
    death = [s for takeover in stage.takeovers for s in takeover.after_death_s]
    told = [s for takeover in stage.takeovers for s in takeover.after_detection_s or ()]
    if not told:
        return [Row("takeover after detection", None, "s", 2, 1, "lower", "none was measured")]
    count = f"{len(told)} partitions of {len(stage.takeovers)} workers killed alone"
    return [
        Row("takeover after detection: p50", statistics.median(told), "s", 2, 1, "lower", count),
        Row("takeover after detection: max", max(told), "s", 2, 1, "lower",
            "from the broker's giving up the dead worker to the first commit by another"),
        Row("takeover after the kill: p50", statistics.median(death), "s", 8, 7, "lower"),
        Row("takeover after the kill: max", max(death), "s", 8, 7, "lower"),
    ]  # fmt: skip


def measure(kills: int, seed: int, folder: Path) -> list[Row]:
    """Run it all in a folder.

    Raises:
        Unavailable: There is no Apache Kafka to be had here.
    """
    start_s = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - start_s:7.1f} s  {words}", flush=True)

    def tell(stage: Stage) -> Callable[[str], None]:
        return lambda words: say(f"{stage.kills:3d} kills  {words}")

    with a_kafka(folder / "kafka") as kafka, a_lossy_redis(folder / "redis") as store:
        wait_until(lambda: kafka_answers(kafka.address), f"{kafka.what} answers")
        say(f"{kafka.what}; {store.server.what}")
        with a_stage(folder, kafka, store, TOPIC_PREFIX, seed, say) as stage:
            stage.say = tell(stage)
            attack(stage, kills)
            verdict = judge(stage)
            return rows_of(stage, verdict, time.monotonic() - start_s)


def main() -> int:
    """Run from the command line; return 1 when a must fails."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{NAME}")
    parser.add_argument("--kills", type=int, help=f"of workers (default {KILLS})")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    parser.add_argument("--keep", type=Path, help="keep logs and data in this folder")
    arguments = parser.parse_args()
    kills = arguments.kills or (QUICK_KILLS if arguments.quick else KILLS)
    again = f"python -m load_tests.{NAME} --kills {kills} --seed {arguments.seed}"
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a broker that is away is no news
    print(again, flush=True)
    try:
        with stopped_by_signals(), tempfile.TemporaryDirectory(prefix="riskbeat-chaos-") as made:
            rows = measure(kills, arguments.seed, arguments.keep or Path(made))
    except Unavailable as reason:
        rows = [Row("kill -9 of workers", None, "kills", note=f"{NOT_RUN}: {reason}")]
    except KeyboardInterrupt as how:
        print(f"stopped: {str(how) or 'Ctrl-C'}", file=sys.stderr)
        return 130
    except Exception:
        print(f"failed; again with: {again}", file=sys.stderr)
        raise
    with tempfile.TemporaryDirectory() as nowhere:
        good = write(NAME, rows, arguments.out or Path(nowhere) / "rows.json")
    if not good:
        print(f"failed; again with: {again}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
