"""`python -m load_tests.chaos_features --kills N --seed N`: what is left of a log after all that.

Featurize workers are killed, frozen and woken, the broker is stopped and killed, the store loses
its last seconds, while events flow. Then the store is drained, every state is compared byte for
byte with a plain recomputation of the log, and the log runs through one fresh worker once more.

The seed draws the load and what is done to whom; when it hits is up to the machine.
"""

import argparse
import logging
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from load_tests.chaos_features_check import Kept, different, letters_of, read_truth
from load_tests.chaos_features_servers import a_kafka, a_lossy_redis, client_of
from load_tests.chaos_features_stage import (
    REDIS_PREFIX,
    SETTLE_TIMEOUT_S,
    UPDATES_PARTITIONS,
    Stage,
    a_stage,
    run_riskbeat,
)
from load_tests.chaos_features_workers import NO_NAME
from load_tests.report import Row, write
from tests.conftest import kafka_answers
from tests.live.servers import Unavailable, wait_until

NAME = "chaos_features"
TOPIC_PREFIX = "chaos."
KILLS, QUICK_KILLS = 200, 10
PHASES = (  # workers, static members?, share of the kills
    (2, False, 0.15),
    (2, True, 0.30),
    (3, False, 0.15),
    (3, True, 0.40),
)
KILLS_PER_TAKEOVER, KILLS_PER_ZOMBIE, KILLS_PER_LOSS, KILLS_PER_BROKER = 20, 16, 12, 40
ALIVE_S = (0.3, 3.0)
APART_S = 0.4  # between the kills of one stroke
WORKING_SHARE = 0.6  # how often a stroke waits for work to begin; else it hits workers that start
REBUILD_TIMEOUT_S = 600.0
REBUILD_FETCH_RECORDS = "97"  # another cut of the same log
NOT_RUN = "not run"
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SHOWN = 3


@dataclass(frozen=True)
class Verdict:
    """What the store holds, against what the log says.

    Attributes:
        drained: Whether every record of both sources was applied in time.
        wrong: States that differ, are missing, or are too many.
        letters: Rejected records without a dead letter, and dead letters without a reject.
        wrong_again: States of the second run that are not those of the first.
        statuses: Exit statuses of the workers that were asked to stop.
    """

    drained: bool
    states: int
    events: int
    wrong: list[bytes]
    letters: int
    wrong_again: list[bytes]
    statuses: list[int]
    what_counted: str


def attack(stage: Stage, kills: int, phases: Sequence[tuple[int, bool, float]] = PHASES) -> None:
    """Kill so many workers, by phases, and do the rest in between."""
    done = {"takeover": 0, "zombie": 0, "loss": 0, "broker": 0}
    moves: list[tuple[str, int, Callable[[], None]]] = [
        ("takeover", KILLS_PER_TAKEOVER, stage.measure_takeover),
        ("zombie", KILLS_PER_ZOMBIE, stage.raise_zombie),
        ("loss", KILLS_PER_LOSS, stage.lose_seconds),
        ("broker", KILLS_PER_BROKER, stage.restart_broker),
    ]
    goal = 0.0
    for workers, fixed, share in phases:
        goal += share * kills
        stage.staff(workers, fixed=fixed)
        while stage.kills < min(round(goal), kills):
            for name, per, move in moves:
                if stage.kills + per // 2 >= (done[name] + 1) * per:
                    done[name] += 1
                    move()
            strike(stage, min(kills, round(goal)) - stage.kills)


def strike(stage: Stage, most: int) -> None:
    """Kill one worker or several within a moment, and start them again."""
    slots = list(stage.workers.slots)
    count = min(most, stage.draw.randint(1, len(slots)))
    hit = stage.draw.sample(slots, count)
    for slot in hit:
        stage.kill(slot)
        time.sleep(stage.draw.uniform(0, APART_S))
        if stage.draw.random() < 0.5:
            stage.workers.start(slot)
    for slot in hit:
        if slot not in stage.workers.slots:
            stage.workers.start(slot)
    if stage.draw.random() < WORKING_SHARE:
        stage.until_all_commit(time.monotonic())
    stage.pause(stage.draw.uniform(*ALIVE_S))


def judge(stage: Stage, *, twice: bool = True) -> Verdict:
    """Let everything settle, and compare it with the log; then with a second run of the log."""
    stage.load.stop()
    stage.say("the load has ended; counting by hand")
    truth = read_truth(stage.kafka.address, stage.topics, stage.spec, UPDATES_PARTITIONS)
    with client_of(stage.store.server) as client:
        kept = Kept(client, f"{REDIS_PREFIX}0:", UPDATES_PARTITIONS)
        drained = kept.settle(truth.ends, SETTLE_TIMEOUT_S, stage.workers.keep)
        stage.until_settled()  # one that is still starting does not know yet how to stop
        statuses = stage.workers.end()
        found = kept.states()
        wrong = different(truth.states, found)
        letters = truth.rejected ^ letters_of(stage.kafka.address, stage.topics)
        stage.say(f"{len(found)} states, {len(wrong)} differ")
        again = found
        if twice:
            more = {"RISKBEAT_FETCH_MAX_RECORDS": REBUILD_FETCH_RECORDS}
            run_riskbeat(stage.workers, "rebuild", timeout_s=REBUILD_TIMEOUT_S, **more)
            again = Kept(client, f"{REDIS_PREFIX}1:", UPDATES_PARTITIONS).states()
    counted = (
        f"{truth.events} events, {truth.transitions} transitions, {len(truth.rejected)} rejected; "
        f"by partition: {truth.late} late, {truth.duplicates} duplicate"
    )
    return Verdict(
        drained,
        len(truth.states),
        truth.events,
        wrong,
        len(letters),
        different(found, again),
        statuses,
        counted,
    )


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


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let every signal that ends us be Ctrl-C, so that everything that was started is ended.

    A shell's background process is started deaf to SIGINT; it hears it here.
    """

    def stop(number: int, _: object) -> None:
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {n: signal.signal(n, stop) for n in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
