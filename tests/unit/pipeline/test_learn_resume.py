"""Killed at any numbered step, the learner goes on as if it had never stopped, bit for bit."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.learner_torch import TorchLearner
from models.member_torch import Recipe
from models.signing import ensure_keys, load_public_keys
from models.weights import decode_verified, sha256_of
from pipeline.learn import LearnRules, LearnStep
from pipeline.learn_duty import begin_anew
from pipeline.learn_loop import CheckpointLost, LearnLoop, LoopRules
from tests.builders_learn import DAY, DIGEST, FEATURES, RULES, START, a_decision, a_label
from tests.fakes_learn import FusedJoinStore, MemoryLearnLog, Silence
from tests.fakes_registry import Fuse, Killed, MemoryWeightsRegistry

BATCH = 20
PLACES = (
    "poll",
    "after reject",
    "before commit",
    "after commit",
    "before transitions",
    "after transitions",
    "before weights",
    "after weights",
    "before registry",
    "after registry",
    "before progress",
)


class Deployment:
    """A log, a registry and a disk, on which learners live one after the other."""

    def __init__(self, folder: Path, digest: str = DIGEST, sends_labels: bool = True) -> None:
        self.folder, self.digest, self.sends_labels = folder, digest, sends_labels
        self.anew = False
        self.fuse = Fuse()
        self.registry = MemoryWeightsRegistry(fuse=self.fuse)
        self.log = MemoryLearnLog(BATCH, self.fuse)
        self.signer = ensure_keys(folder / "private", folder / "public")
        self.lives = 0

    async def live(self) -> bool:
        """Run one learner until the log is learned, or until it is killed."""
        self.lives += 1
        FusedJoinStore.fuse = self.fuse
        store = FusedJoinStore(self.folder / "join.sqlite")
        learner = TorchLearner(
            FEATURES, self.digest, Recipe(beta=0.5, new_rows=8, keep_rows=300, keep_frauds=50)
        )
        step = LearnStep(
            LearnRules(
                n_features=FEATURES,
                label_partitions=3,
                horizon_ms=20 * 86_400_000,
                sends_labels=self.sends_labels,
            ),
            store,
            learner,
        )
        rules = LoopRules(
            event_rules=RULES,
            spec_digest=self.digest,
            n_features=FEATURES,
            code_version="test",
            publish_interval_s=0.0,
            quiet_interval_s=0.0,
            sends_labels=self.sends_labels,
        )
        if self.anew:
            begin_anew(store)
        tick: Callable[[], float] = lambda: 0.0  # noqa: E731
        loop = LearnLoop(
            rules, self.log, store, step, self.registry, self.signer, Silence(), lambda: 1, tick
        )
        try:
            await loop.recover()
            while not (self.log.done and not step.more_due):
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

    def last_weights(self) -> bytes:
        return self.log.weights[-1][1]


def fill(log: MemoryLearnLog) -> None:
    draws = np.random.default_rng(7)
    for index in range(240):
        x = draws.lognormal(0, 1, FEATURES).astype(np.float32)
        log.append("decision", a_decision(f"e{index}", START + index * DAY / 16, x, p=x[0] / 99))
        if index % 9 == 0:
            log.append("label", a_label(f"e{index}", "fraud", START + index * DAY / 16 + DAY))
        if index % 27 == 9:
            log.append(
                "label",
                a_label(f"e{index - 9}", "fraud", START + index * DAY / 8, state="reversed"),
            )
        if index % 50 == 0:
            log.append("label", b'{"no": "label"}')


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployment = Deployment(tmp_path_factory.mktemp("undisturbed"))
    fill(deployment.log)
    asyncio.run(deployment.live_on())
    assert deployment.lives == 1
    return deployment


@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("place", PLACES)
async def test_killed_anywhere_it_ends_alike(
    place: str, nth: int, tmp_path: Path, undisturbed: Deployment
) -> None:
    disturbed = Deployment(tmp_path)
    for name in ("private", "public"):
        (tmp_path / name).write_bytes((undisturbed.folder / name).read_bytes())
        (tmp_path / name).chmod(0o600)
    disturbed.signer = undisturbed.signer
    fill(disturbed.log)
    disturbed.fuse.at = (place, nth)
    await disturbed.live_on()
    assert disturbed.lives == 2
    assert sha256_of(disturbed.last_weights()) == sha256_of(undisturbed.last_weights())
    assert dict(disturbed.log.weights) == dict(undisturbed.log.weights)
    assert disturbed.log.applied_transitions() == undisturbed.log.applied_transitions()
    assert await disturbed.registry.standing() == await undisturbed.registry.standing()
    assert await disturbed.registry.progress() == await undisturbed.registry.progress()


async def test_versions_are_consecutive_and_know_their_parents(undisturbed: Deployment) -> None:
    keys = load_public_keys(undisturbed.folder / "public")
    parent = ""
    for number, (version, data) in enumerate(undisturbed.log.weights, start=1):
        weights = decode_verified(data, keys, DIGEST)
        assert (weights.version, version, weights.parent_sha256) == (number, number, parent)
        assert await undisturbed.registry.read(version) == data
        parent = sha256_of(data)


async def test_every_reject_has_its_dead_letter(undisturbed: Deployment) -> None:
    assert len(undisturbed.log.dead) == 5
    assert {error.code for _, error in undisturbed.log.dead} == {"missing_field"}


async def test_a_registry_without_its_last_second_gets_it_back(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log)
    await deployment.live_on()
    latest = await deployment.registry.latest_version()
    deployment.registry.lose_last(3)
    await deployment.live_on()
    assert await deployment.registry.latest_version() == latest
    for version, data in deployment.log.weights:
        assert await deployment.registry.read(version) == data


async def test_a_learner_without_its_disk_is_refused(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log)
    await deployment.live_on()
    deployment.lose_disk()
    with pytest.raises(CheckpointLost, match="data directory"):
        await deployment.live()
