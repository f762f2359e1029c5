"""A log, a registry and a disk in memory, on which learners live one after the other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from models.ensemble import Ensemble
from models.learner import Space
from models.plan import Challenger, Member
from models.signing import ensure_keys, load_public_keys
from models.weights import Weights, decode_verified
from models.weights_delta import apply_delta, is_delta
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.judged import JudgeSink
from pipeline.learn import LearnRules, LearnStep
from pipeline.learn_duty import begin_anew
from pipeline.learn_loop import LearnLoop, LoopRules, ParseRules
from pipeline.learn_ports import Inspector
from pipeline.publish import Publisher, PublishRules
from pipeline.step_ports import Company
from pipeline.tenure import Tenure
from tests.builders_learn import DAY, DIGEST, FEATURES, RULES, START, a_decision, a_label
from tests.fakes_learn import FusedJoinStore, MemoryLearnLog, Silence
from tests.fakes_learner import SPACE, a_plan, make_in_memory
from tests.fakes_registry import Fuse, Killed, MemoryWeightsRegistry

BATCH = 20
TTL_S = 3.0


def a_step(
    store: SqliteJoinStore,
    digest: str = DIGEST,
    sends_labels: bool = True,
    company: Company | None = None,
) -> LearnStep:
    rules = LearnRules(
        n_features=FEATURES,
        label_partitions=3,
        horizon_ms=20 * 86_400_000,
        sends_labels=sends_labels,
    )
    return LearnStep(rules, store, an_ensemble(digest), company or Company())


def an_ensemble(digest: str) -> Ensemble:
    """Members of several kinds, one with a table of which each row moves one entry."""
    plan = a_plan(
        lanes={
            "feedback": {"slow": Member("linear")},
            "delayed": {"table": Member("table"), "boosted": Member("forest")},
        },
        challengers={"quick": Challenger("delayed", "linear", {"rate": 0.9})},
    )
    return Ensemble(Space(digest, SPACE.names), plan, 1, make_in_memory)


def parse_rules(digest: str = DIGEST) -> ParseRules:
    return ParseRules(event_rules=RULES, spec_digest=digest, n_features=FEATURES)


class Deployment:
    """Everything but the learner survives its death."""

    def __init__(self, folder: Path, digest: str = DIGEST, sends_labels: bool = True) -> None:
        self.folder, self.digest, self.sends_labels = folder, digest, sends_labels
        self.anew = False
        self.fuse = Fuse()
        self.now_s = 0.0
        self.registry = MemoryWeightsRegistry(fuse=self.fuse, now_s=lambda: self.now_s)
        self.log = MemoryLearnLog(BATCH, self.fuse)
        self.signer = ensure_keys(folder / "private", folder / "public")
        self.watch = Silence()
        self.inspector: Inspector | None = None
        self.full_every = 64
        self.lives = 0

    def loop(self, store: SqliteJoinStore, owner: str = "learner") -> LearnLoop:
        """A learner on this disk."""
        tick: Callable[[], float] = lambda: self.now_s  # noqa: E731
        sink = self.sink(store)
        step = a_step(store, self.digest, self.sends_labels, Company(sink=sink))
        tenure = Tenure(self.registry, owner, TTL_S, tick)
        rules = PublishRules(
            code_version="test", full_every=self.full_every, sends_labels=self.sends_labels
        )
        publisher = Publisher(
            rules,
            self.log,
            store,
            step,
            self.registry,
            tenure,
            self.signer,
            self.watch,
            lambda: 1,
            tick,
            self.inspector,
            sink.committed if sink is not None else lambda: None,
        )
        loop_rules = LoopRules(
            parse=parse_rules(self.digest), publish_interval_s=0.0, quiet_interval_s=0.0
        )
        return LearnLoop(loop_rules, self.log, step, publisher, tenure, self.watch, tick)

    def sink(self, store: SqliteJoinStore) -> JudgeSink | None:
        """Who is handed what is judged; nobody."""

    def store(self) -> FusedJoinStore:
        FusedJoinStore.fuse = self.fuse
        return FusedJoinStore(self.folder / "join.sqlite")

    async def live(self) -> bool:
        """Run one learner until the log is learned, or until it is killed."""
        self.lives += 1
        store = self.store()
        if self.anew:
            begin_anew(store)
        loop = self.loop(store)
        try:
            await loop.recover()
            await loop.turn()
            while not (self.log.done and loop.idle):
                await loop.turn()
        except Killed:
            return False
        finally:
            store.close()
        return True

    async def live_on(self) -> None:
        while not await self.live():
            assert self.lives < 100

    def lose_disk(self) -> None:
        for path in self.folder.glob("join.sqlite*"):
            path.unlink()

    def share_keys(self, other: "Deployment") -> None:
        for name in ("private", "public"):
            (self.folder / name).write_bytes((other.folder / name).read_bytes())
            (self.folder / name).chmod(0o600)
        self.signer = other.signer

    def versions(self) -> list[Weights]:
        """Every version of the topic, read as a reader of all of them does."""
        keys = load_public_keys(self.folder / "public")
        found: list[Weights] = []
        for number, data in sorted(dict(self.log.weights).items()):
            if is_delta(data):
                assert found[-1].version == number - 1
                found.append(apply_delta(found[-1], data, keys, self.digest))
            else:
                found.append(decode_verified(data, keys, self.digest))
        return found


def fill(log: MemoryLearnLog, first: int = 0, last: int = 240) -> None:
    draws = np.random.default_rng(7 + first)
    for index in range(first, last):
        x = draws.lognormal(0, 1, FEATURES).astype(np.float32)
        log.append("decision", a_decision(f"e{index}", START + index * DAY / 16, x, p=x[0] / 99))
        if index % 9 == 0:
            source = "chargeback" if index % 2 else "manual_review"
            at = START + index * DAY / 16 + DAY
            log.append("label", a_label(f"e{index}", "fraud", at, source))
        if index % 27 == 9:
            log.append(
                "label",
                a_label(f"e{index - 9}", "fraud", START + index * DAY / 8, state="reversed"),
            )
        if index % 50 == 0:
            log.append("label", b'{"no": "label"}')
