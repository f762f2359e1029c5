"""workers under load → killed, frozen and woken by a seed; then held against the log."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from load_tests.chaos_features.check import Kept, different, letters_of, read_truth
from load_tests.chaos_features.servers import client_of
from load_tests.chaos_features.stage import (
    REDIS_PREFIX,
    SETTLE_TIMEOUT_S,
    UPDATES_PARTITIONS,
    Stage,
)
from load_tests.processes import run_riskbeat

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
            run_riskbeat({**stage.workers.env, **more}, "rebuild", timeout_s=REBUILD_TIMEOUT_S)
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
