"""Every fault that the lab can do to a deployment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from load_tests.chaos import memory
from load_tests.chaos.clock import LOOKED_AT_S
from load_tests.chaos.crew import LEARNERS, PROCESSES, SCORER, WORKERS
from load_tests.chaos.roles import SESSION_TIMEOUT_S
from load_tests.chaos.stage import POLL_S, LeftOut, Stage
from load_tests.chaos.wire import Wire
from tests.conftest import kafka_answers
from tests.live.servers import wait_until

RIVAL_TIMEOUT_S = 120.0
SLOW_S = 0.2
STEP_S = (5.0, 50.0)  # events may come from 60 s ahead
CLOCK = "a clock is stepped"
ROLLED = "\nworker.rolled "


def _kill(stage: Stage, name: str) -> None:
    stage.crew.kill(name)
    stage.crew.pause(stage.draw.uniform(0.0, 1.0))
    stage.crew.start(name)


def _freeze(stage: Stage, name: str, seconds: float) -> None:
    stage.crew.signal(name, signal.SIGSTOP)
    stage.crew.pause(seconds)
    stage.crew.signal(name, signal.SIGCONT)


def kill_worker(stage: Stage) -> None:
    _kill(stage, stage.draw.choice(WORKERS))


def kill_learner(stage: Stage) -> None:
    _kill(stage, stage.leader())


def lose_learners(stage: Stage) -> None:
    for name in LEARNERS:
        stage.crew.kill(name)
    stage.crew.pause(stage.draw.uniform(0.0, 1.0))
    for name in LEARNERS:
        stage.crew.start(name)


def kill_scorer(stage: Stage) -> None:
    os.kill(stage.answering(), signal.SIGKILL)


def lose_scorer(stage: Stage) -> None:
    _kill(stage, SCORER)


def starve_worker(stage: Stage) -> None:
    _starve_one(stage, stage.draw.choice(WORKERS))


def starve_learner(stage: Stage) -> None:
    _starve_one(stage, stage.leader())


def starve_scorer(stage: Stage) -> None:
    _starve(stage.answering())


def _starve_one(stage: Stage, name: str) -> None:
    _starve(stage.crew.running[name].pid)
    stage.crew.kill(name)  # what is left of its family
    stage.crew.start(name)


def _starve(pid: int) -> None:
    """Let the kernel kill a process for want of memory.

    Raises:
        LeftOut: No control group may be made here, or it lived on.
    """
    if not memory.can_starve():
        raise LeftOut("no memory control group may be made here")
    try:
        memory.starve(pid)
    except TimeoutError as error:
        raise LeftOut(str(error)) from error


def freeze_worker(stage: Stage) -> None:
    _freeze(stage, stage.draw.choice(WORKERS), SESSION_TIMEOUT_S + stage.draw.uniform(1.0, 4.0))


def freeze_learner(stage: Stage) -> None:
    _freeze(stage, stage.leader(), stage.draw.uniform(2.0, 12.0))


def freeze_scorer(stage: Stage) -> None:
    _freeze(stage, SCORER, stage.draw.uniform(1.0, 4.0))


def restart_broker(stage: Stage) -> None:
    stage.draw.choice((stage.broker.stop, stage.broker.kill))()
    stage.crew.pause(stage.draw.uniform(0.0, 3.0))
    stage.broker.start()
    wait_until(lambda: kafka_answers(stage.kafka.address), "the broker answers")


def freeze_broker(stage: Stage) -> None:
    stage.broker.pause()
    stage.crew.pause(stage.draw.uniform(1.0, 4.0))
    stage.broker.resume()


def lose_store_seconds(stage: Stage) -> None:
    loss = stage.store.lose(stage.draw.uniform(0.5, 1.5), stage.draw)
    stage.say(f"the store lost {loss.seconds:.2f} s: {loss.commits} commits")


def freeze_store(stage: Stage) -> None:
    stage.store.host.pause()
    stage.crew.pause(stage.draw.uniform(1.0, 4.0))
    stage.store.host.resume()


def cut_wire(stage: Stage) -> None:
    _cut(stage, stage.wires[stage.draw.choice(PROCESSES)])


def slow_wire(stage: Stage) -> None:
    _slow(stage, stage.wires[stage.draw.choice(PROCESSES)])


def cut_log_wire(stage: Stage) -> None:
    _cut(stage, stage.log_wires[stage.draw.choice(PROCESSES)], 2 * SESSION_TIMEOUT_S)


def slow_log_wire(stage: Stage) -> None:
    _slow(stage, stage.log_wires[stage.draw.choice(PROCESSES)])


def cut_caller(stage: Stage) -> None:
    _cut(stage, stage.caller_wire)


def slow_caller(stage: Stage) -> None:
    _slow(stage, stage.caller_wire)


def _cut(stage: Stage, wire: Wire, longest_s: float = 4.0) -> None:
    wire.cut()
    stage.crew.pause(stage.draw.uniform(0.5, longest_s))
    wire.mend()


def _slow(stage: Stage, wire: Wire) -> None:
    wire.slow(SLOW_S)
    stage.crew.pause(stage.draw.uniform(2.0, 4.0))
    wire.mend()


def fill_disk(stage: Stage) -> None:
    """Let the disk of the learners, or that of the scorer, be full for a while."""
    names = stage.draw.choice((LEARNERS, (SCORER,)))
    for name in names:
        stage.crew.fill(name)
    stage.crew.pause(stage.draw.uniform(2.0, 5.0))
    for name in names:
        stage.crew.free(name)


def step_clock(stage: Stage) -> None:
    """Step the time of day of one process, and put it right again."""
    stage.clock.step(stage.draw.choice((-1, 1)) * stage.draw.uniform(*STEP_S))
    stage.crew.pause(LOOKED_AT_S + stage.draw.uniform(1.0, 4.0))
    stage.clock.step(0)
    stage.crew.pause(LOOKED_AT_S)


def second_learner(stage: Stage) -> None:
    """Start a learner with a disk of its own: it must end by itself, and say why."""
    folder = stage.crew.folder / f"rival-{len(stage.rivals)}"
    env = {**os.environ, **stage.crew.env, **stage.crew.roles[LEARNERS[0]].env}
    with (stage.crew.folder / "rival.log").open("ab") as out:
        rival = subprocess.Popen(
            [sys.executable, "-m", "riskbeat", "learn"],
            env={**env, "RISKBEAT_DATA_DIR": str(folder)},
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
        )
    end_s = time.monotonic() + RIVAL_TIMEOUT_S
    while rival.poll() is None and time.monotonic() < end_s:
        stage.crew.pause(POLL_S)
    if rival.poll() is None:
        rival.kill()
    stage.rivals.append(rival.wait())


def roll_all(stage: Stage) -> None:
    """Put a new process in each one's place in turn, as an upgrade does; the scorer never ends."""
    for name in (*WORKERS, *LEARNERS):
        status = stage.crew.stop(name)
        if status:
            stage.crew.ends[f"{name}, asked to stop, ended with {status}"] += 1
        stage.crew.start(name)
        stage.crew.pause(stage.draw.uniform(0.5, 2.0))
    rolled = stage.log_of(SCORER).count(ROLLED)
    os.kill(stage.crew.running[SCORER].pid, signal.SIGHUP)
    while stage.log_of(SCORER).count(ROLLED) == rolled:
        stage.crew.pause(POLL_S)


FAULTS: dict[str, Callable[[Stage], None]] = {
    "kill -9 of a worker": kill_worker,
    "kill -9 of the learner": kill_learner,
    "kill -9 of the scorer": kill_scorer,
    "both learners are lost": lose_learners,
    "the scorer is lost with its spare": lose_scorer,
    "a worker stands still": freeze_worker,
    "the learner stands still": freeze_learner,
    "the scorer stands still": freeze_scorer,
    "restart of Kafka": restart_broker,
    "Kafka stands still": freeze_broker,
    "Redis loses its last second": lose_store_seconds,
    "Redis stands still": freeze_store,
    "one process loses Redis": cut_wire,
    "one process finds Redis slow": slow_wire,
    "one process loses Kafka": cut_log_wire,
    "one process finds Kafka slow": slow_log_wire,
    "the caller loses the scorer": cut_caller,
    "the caller finds the scorer slow": slow_caller,
    "a worker is out of memory": starve_worker,
    "the learner is out of memory": starve_learner,
    "the scorer is out of memory": starve_scorer,
    "a full disk": fill_disk,
    CLOCK: step_clock,
    "a second learner": second_learner,
    "every process is rolled": roll_all,
}
"""Kind of fault → what does it, and returns when nothing stands in the way any more."""
