"""`python -m load_tests.chaos_learning --kills N --seed N`: a learner killed while it learns.

Decisions and labels of all kinds (early, late, repeated, reversed) flow into the log while the
learner is killed with `kill -9` at random moments and started again. Afterwards the log is asked:
are versions consecutive, each with one content; does every label have its effect on the features
exactly once; and does a learner that was never interrupted, given the same log, make the very same
versions (`riskbeat model verify`).

The seed draws the load and the moments; what a moment hits is up to the machine.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from features.client_redis import Client, connect_redis
from features.spec import Spec
from features.topics import Topics
from load_tests.chaos_learning.check import Verdict, caught_up, judge
from load_tests.chaos_learning.load import PARTITIONS, Load, Told
from load_tests.deployment import KAFKA, REDIS
from load_tests.features_servers import serving
from load_tests.processes import Processes, run_riskbeat, wait_until
from load_tests.report import ROOT, Row, write
from models.registry_redis import RedisWeightsRegistry

NAME = "chaos_learning"
KILLS, QUICK_KILLS = 100, 5
ALIVE_S = (0.0, 1.5)  # from the first version after a start to the next kill
START_TIMEOUT_S, SETTLE_TIMEOUT_S = 90.0, 120.0
TOPIC_PREFIX, REDIS_PREFIX = "chaoslearn.", "chaoslearn:"


@dataclass
class Stage:
    """A learner under attack, and how often it has come back."""

    processes: Processes
    env: dict[str, str]
    topics: Topics
    spec: Spec
    draw: random.Random
    back_s: list[float] = field(default_factory=list)
    spent_s: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start a learner, wait for its next version, and remember what that took."""
        before = asyncio.run(self.standing())
        self.processes.start("learn")
        self.back_s.append(
            wait_until(
                lambda: self.alive() and asyncio.run(self.standing()) > before,
                "a new version after a start",
                START_TIMEOUT_S,
            )
        )
        self.spent_s.append(self.processes.running["learn"].cpu_s)

    def kill(self) -> None:
        """`kill -9`, at once."""
        victim = self.processes.running.pop("learn").popen
        victim.kill()
        victim.wait()

    def alive(self) -> bool:
        self.processes.look()
        return True

    async def standing(self) -> int:
        """Return the newest version's number."""
        client = connect_redis(self.env[REDIS])
        try:
            return await self._registry(client).latest_version()
        finally:
            await client.aclose()

    async def caught_up(self) -> bool:
        """Whether the learner has taken everything that the log holds."""
        return await caught_up(
            self.env[KAFKA],
            self.env[REDIS],
            REDIS_PREFIX,
            self.topics,
            self.spec.digest,
            PARTITIONS,
        )

    def _registry(self, client: Client) -> RedisWeightsRegistry:
        return RedisWeightsRegistry(client, REDIS_PREFIX, self.spec.digest)


def rows_of(stage: Stage, told: Told, verdict: Verdict, kills: int, what: str) -> list[Row]:
    """Return the figures."""
    back = np.array(stage.back_s)
    p50, worst = float(np.median(back)), float(back.max())
    return [
        Row("kill -9 of the learner", kills, "kills", note=what),
        Row("decisions", told.events, "decisions", note=f"{told.labels} labels"),
        Row("versions", verdict.versions, "versions", note="one published every 0.1 s at most"),
        Row("versions missing, doubled, or not following", verdict.gaps, "versions", 0, 0, "lower"),
        Row("transitions out of turn", verdict.wrong_numbers, "transitions", 0, 0, "lower"),
        Row("events whose label was lost or counted twice", verdict.wrong_labels, "events", 0, 0,
            "lower"),
        Row("versions that an uninterrupted learner makes otherwise", verdict.unequal, "versions",
            0, 0, "lower", verdict.words),
        Row("start → next version: p50", p50, "s", better="lower"),
        Row("start → next version: max", worst, "s", 5, 2, "lower"),
        Row("start → next version: CPU, p50", float(np.median(stage.spent_s)), "CPU-s",
            better="lower", note="of the learner; on an idle core its start lasts about as long"),
    ]  # fmt: skip


def measure(kills: int, seed: int, folder: Path) -> list[Row]:
    """Run it all in a folder."""
    spec = Spec.load(ROOT / "features.yaml")
    topics = Topics(TOPIC_PREFIX)
    with serving(folder) as servers, servers.unpinned() as free:
        env = {
            KAFKA: servers.kafka.address,
            REDIS: servers.store.address,
            "RISKBEAT_TOPIC_PREFIX": TOPIC_PREFIX,
            "RISKBEAT_REDIS_PREFIX": REDIS_PREFIX,
            "RISKBEAT_DATA_DIR": str(folder / "data"),
            "RISKBEAT_SIGNING_KEY_PATH": str(folder / "keys" / "signing.pem"),
            "RISKBEAT_PUBLIC_KEY_PATHS": json.dumps([str(folder / "keys" / "public.pem")]),
            "RISKBEAT_SPEC_PATH": str(ROOT / "features.yaml"),
            "RISKBEAT_DECISIONS_PARTITIONS": str(PARTITIONS),
            "RISKBEAT_LABELS_PARTITIONS": str(PARTITIONS),
            "RISKBEAT_PUBLISH_INTERVAL_S": "0.1",
            "RISKBEAT_PUBLISH_QUIET_S": "0.1",
            "OMP_NUM_THREADS": "1",
        }
        with Processes(env, folder) as processes:
            stage = Stage(processes, env, topics, spec, random.Random(seed))
            for command in ("topics", "keys"):
                run_riskbeat(env, command)
            load = Load(env[KAFKA], topics, spec, seed)
            with _flowing(load):
                stage.start()
                for kill in range(kills):
                    time.sleep(stage.draw.uniform(*ALIVE_S))  # any moment will do
                    stage.kill()
                    stage.start()
                    print(f"{kill + 1} kills, back in {stage.back_s[-1]:.1f} s", flush=True)
            wait_until(
                lambda: stage.alive() and asyncio.run(stage.caught_up()),
                "all is learned",
                SETTLE_TIMEOUT_S,
            )
            processes.stop()
            verdict = judge(env, topics, spec.digest, load.told)
            return rows_of(stage, load.told, verdict, kills, free.words)


@contextmanager
def _flowing(load: Load) -> Iterator[None]:
    """Let the load run beside; it ends, all acknowledged, with the block."""
    with ThreadPoolExecutor(1) as thread:
        flowing = thread.submit(asyncio.run, load.run())
        try:
            yield
        finally:
            load.stop()
            flowing.result(SETTLE_TIMEOUT_S)


def main() -> int:
    """Run from the command line; return 1 when a must fails."""
    parser = argparse.ArgumentParser(prog=f"python -m load_tests.{NAME}")
    parser.add_argument("--kills", type=int, help=f"of the learner (default {KILLS})")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_KILLS} kills")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    arguments = parser.parse_args()
    kills = arguments.kills or (QUICK_KILLS if arguments.quick else KILLS)
    again = f"python -m load_tests.{NAME} --kills {kills} --seed {arguments.seed} --out FILE"
    print(again, flush=True)
    with tempfile.TemporaryDirectory(prefix="riskbeat-chaos-") as made:
        rows = measure(kills, arguments.seed, Path(made))
    good = write(NAME, rows, arguments.out)
    if not good:
        print(f"failed; again with: {again}", file=sys.stderr)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
