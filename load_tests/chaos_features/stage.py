"""broker, store, load and workers of one chaos run, and what may be done to them."""

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from features.spec import Spec
from features.topics import Topics
from load_tests.chaos_features.load import Load
from load_tests.chaos_features.servers import (
    Loss,
    LossyRedis,
    broker_log,
    client_of,
)
from load_tests.chaos_features.workers import REFUSED, Commits, Worker, Workers
from load_tests.processes import run_riskbeat
from load_tests.report import ROOT
from tests.conftest import kafka_answers
from tests.live.servers import Host, Server, wait_until

SPEC = ROOT / "features.yaml"
SESSION_TIMEOUT_S = 6.0  # the broker's floor
EVENTS_PARTITIONS, LABEL_PARTITIONS, UPDATES_PARTITIONS = 4, 2, 8
REDIS_PREFIX = "chaos:"
STORE_TIMEOUT_S = 30.0  # longer than a zombie sleeps: awake, it still gets its last answer
SETTLE_TIMEOUT_S = 240.0
WORKING_TIMEOUT_S = 120.0
SILENT_S = 2.0  # a partition in the hands of a living worker is committed far more often
POLL_S = 0.05
DEAD_IN_LOG = re.compile(r"^\[([^\]]+)\] INFO .* Member \S+ in group \S+ has failed", re.M)


@dataclass
class Takeover:
    """One worker's death and what followed.

    Attributes:
        after_death_s: From the kill to the first commit by another, by partition.
        after_detection_s: From when the broker gave the dead one up; None where it did not say.
    """

    after_death_s: list[float]
    after_detection_s: list[float] | None


@dataclass
class Stage:
    """A deployment under attack."""

    kafka: Server
    store: LossyRedis
    topics: Topics
    spec: Spec
    load: Load
    workers: Workers
    commits: Commits
    draw: random.Random
    say: Callable[[str], None]
    kills: int = 0
    broker_restarts: int = 0
    losses: list[Loss] = field(default_factory=list)
    zombies: list[bool] = field(default_factory=list)
    takeovers: list[Takeover] = field(default_factory=list)

    @property
    def broker(self) -> Host:
        assert self.kafka.host is not None
        return self.kafka.host

    def pause(self, seconds: float) -> None:
        """Let time pass, and the supervisor do its work."""
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.workers.keep()
            time.sleep(min(POLL_S, max(0.0, end_s - time.monotonic())))

    def until(self, true: Callable[[], bool], what: str, timeout_s: float) -> None:
        """Wait for something, and let the supervisor do its work.

        Raises:
            TimeoutError: It did not come.
        """
        end_s = time.monotonic() + timeout_s
        while not true():
            if time.monotonic() > end_s:
                raise TimeoutError(f"not within {timeout_s:g} s: {what}")
            self.pause(POLL_S)

    def until_all_commit(self, start_s: float) -> None:
        """Wait until every partition was committed after a time."""
        self.until(
            lambda: len(self.commits.since(start_s)) == UPDATES_PARTITIONS,
            "every partition is committed",
            WORKING_TIMEOUT_S,
        )

    def until_settled(self) -> None:
        """Wait until every worker has its share of the partitions, and commits."""

        def shared() -> bool:
            owned = [worker.owned() for worker in self.workers.slots.values()]
            return min(owned) > 0 and sum(owned) == UPDATES_PARTITIONS

        self.until(shared, "every worker has its share", WORKING_TIMEOUT_S)
        self.until_all_commit(time.monotonic())

    def staff(self, count: int, *, fixed: bool) -> None:
        """Have this many workers, all of them new, and wait until they work."""
        for slot in list(self.workers.slots):
            self.kill(slot)
        self.workers.fixed = fixed
        for slot in range(count):
            self.workers.start(slot)
        self.until_settled()
        self.say(f"{count} workers, {'static' if fixed else 'dynamic'} members")

    def kill(self, slot: int) -> None:
        """`kill -9` one worker."""
        self.workers.kill(slot)
        self.kills += 1

    def measure_takeover(self) -> None:
        """Kill a worker of a settled group, and let the others alone take its partitions over."""
        self.until_settled()
        slot = self.draw.choice(list(self.workers.slots))
        since = datetime.now(UTC)
        at_s = time.monotonic()
        self.kill(slot)
        self.pause(SILENT_S)
        others = self.commits.since(at_s + 0.2, at_s + SILENT_S)
        orphans = [p for p in range(UPDATES_PARTITIONS) if p not in others]
        self.until_all_commit(at_s + SILENT_S)
        first = self.commits.since(at_s + SILENT_S)
        self.workers.start(slot)
        if not orphans:
            return
        taken_s = [first[p] - at_s for p in orphans]
        said = [(when - since).total_seconds() for when in self._times_of_death() if when > since]
        late = [s - said[0] for s in taken_s] if said else None
        self.takeovers.append(Takeover(taken_s, late))
        self.say(f"takeover after {max(taken_s):.2f} s, given up after {said[:1]}")

    def _times_of_death(self) -> list[datetime]:
        return [
            datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC)
            for found in DEAD_IN_LOG.finditer(broker_log(self.kafka))
        ]

    def raise_zombie(self) -> None:
        """Freeze a worker with work in hand until others own its partitions; wake it, and watch.

        The store is held up first, so that batches wait in the worker's memory: one commit is under
        way, and what waits behind it is committed only after the sleep.
        """
        self.until_settled()
        slot = self.draw.choice(list(self.workers.slots))
        with client_of(self.store.server) as client:
            client.execute_command("CLIENT", "PAUSE", "5000", "WRITE")
            time.sleep(self.draw.uniform(0.5, 1.5))
            zombie = self.workers.freeze(slot)
            client.execute_command("CLIENT", "UNPAUSE")
        asleep_s = time.monotonic()
        refused = zombie.count("partition.reopened", REFUSED)
        self.pause(SESSION_TIMEOUT_S)
        self.until_all_commit(asleep_s + SILENT_S)  # by others: it was taken for dead
        self.pause(self.draw.uniform(0.2, 2.0))
        self.workers.wake(slot)
        woken_s = time.monotonic()
        self.until(
            lambda: (
                zombie.count("partition.reopened", REFUSED) > refused
                or not zombie.alive
                or time.monotonic() > woken_s + 5
            ),
            "the zombie does something",
            WORKING_TIMEOUT_S,
        )
        seen = zombie.count("partition.reopened", REFUSED) > refused
        self.zombies.append(seen)
        self.until_all_commit(time.monotonic())
        self.say(f"zombie {'refused' if seen else 'had nothing to commit'}: {_fate(zombie)}")

    def lose_seconds(self) -> None:
        """Let the store forget its last seconds while workers commit."""
        self.until_all_commit(time.monotonic())
        loss = self.store.lose(self.draw.uniform(1.0, 2.0), self.draw)
        self.losses.append(loss)
        self.say(f"the store lost {loss.seconds:.2f} s: {loss.commits} commits")

    def restart_broker(self) -> None:
        """Stop the broker as it likes, or kill it, and start it."""
        how = self.draw.choice((self.broker.stop, self.broker.kill))
        how()
        self.pause(self.draw.uniform(0.0, 2.0))
        self.broker.start()
        wait_until(lambda: kafka_answers(self.kafka.address), "the broker answers")
        self.broker_restarts += 1
        self.say(f"broker: {how.__name__} and start")


def _fate(worker: Worker) -> str:
    return "goes on" if worker.alive else f"ended by {worker.end_name()}"


@contextmanager
def a_stage(
    folder: Path,
    kafka: Server,
    store: LossyRedis,
    topic_prefix: str,
    seed: int,
    say: Callable[[str], None],
) -> Iterator[Stage]:
    """Make topics and start the load; no worker yet. Everything ends with the block."""
    with ExitStack() as stack:
        settings = {
            "KAFKA_BOOTSTRAP_SERVERS": kafka.address,
            "REDIS_URL": store.server.address,
            "TOPIC_PREFIX": topic_prefix,
            "REDIS_PREFIX": REDIS_PREFIX,
            "SPEC_PATH": str(SPEC),
            "DATA_DIR": str(folder / "data"),
            "EVENTS_PARTITIONS": str(EVENTS_PARTITIONS),
            "LABELS_PARTITIONS": str(LABEL_PARTITIONS),
            "UPDATES_PARTITIONS": str(UPDATES_PARTITIONS),
            "KAFKA_SESSION_TIMEOUT_S": str(SESSION_TIMEOUT_S),
            "REDIS_TIMEOUT_S": str(STORE_TIMEOUT_S),
            "LOG_FORMAT": "json",
        }
        env = {f"RISKBEAT_{name}": value for name, value in settings.items()}
        workers = stack.enter_context(Workers(env | {"OMP_NUM_THREADS": "1"}, folder))
        run_riskbeat(workers.env, "topics")
        keys = [f"{REDIS_PREFIX}0:{{{p}}}:meta" for p in range(UPDATES_PARTITIONS)]
        commits = stack.enter_context(Commits(store.server, keys))
        topics = Topics(topic_prefix)
        load = Load(kafka.address, topics, EVENTS_PARTITIONS, LABEL_PARTITIONS, seed)
        stack.enter_context(load)
        spec, draw = Spec.load(SPEC), random.Random(seed)
        yield Stage(kafka, store, topics, spec, load, workers, commits, draw, say)
