"""Freezes, leases and the form of versions: what the learner's loop does about them."""

import dataclasses
from pathlib import Path

import pytest

from models.registry import Freeze
from models.slew import ALPHA
from models.weights import Weights, sha256_of
from models.weights_delta import is_delta
from pipeline.learn_loop import LearnLoop
from pipeline.publish import LABELS_TOLD_MAX
from pipeline.tenure import LeaseLost, Tenure
from tests.builders_learn import DAY, START, a_label
from tests.deployment_learn import TTL_S, Deployment, fill

FREEZE = Freeze(by="ann", why="a release", at_ms=1, cause="operator")


class Doubts:
    """An inspector that has reasons against versions that learned so many labels."""

    def __init__(self, reasons: dict[int, list[str]], shift: float = 0.0) -> None:
        self._reasons, self._shift = reasons, shift
        self.previous: list[int | None] = []
        self.heard: list[bool] = []

    def hear_frozen(self, frozen: bool) -> None:
        self.heard.append(frozen)

    def inspect(self, candidate: Weights, previous: Weights | None) -> tuple[Weights, list[str]]:
        self.previous.append(None if previous is None else previous.version)
        changed = candidate.arrays["scaler.mean"] + self._shift
        arrays = {**candidate.arrays, "scaler.mean": changed}
        reasons = self._reasons.get(candidate.labels_learned, [])
        return dataclasses.replace(candidate, arrays=arrays), reasons


class ShortSteps:
    """An inspector whose steps are short until it has been asked for so many versions."""

    def __init__(self, short: int) -> None:
        self._short = short
        self.asked = 0

    def hear_frozen(self, frozen: bool) -> None:
        pass

    def inspect(self, candidate: Weights, previous: Weights | None) -> tuple[Weights, list[str]]:
        self.asked += 1
        alpha = 0.25 if self.asked <= self._short else 1.0
        return dataclasses.replace(candidate, metrics={**candidate.metrics, ALPHA: alpha}), []


async def learn_all(deployment: Deployment, loop: LearnLoop) -> None:
    while not (deployment.log.done and loop.idle):
        await loop.turn()
        deployment.now_s += 0.1


def label(deployment: Deployment, index: int) -> None:
    """One more of the events turns out to be fraud."""
    at = START + index * DAY / 16
    deployment.log.append("label", a_label(f"e{index}", "fraud", at, source="customer"))


async def test_while_frozen_it_learns_and_commits_and_makes_no_version(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    await deployment.live_on()
    await deployment.registry.freeze(FREEZE)
    fill(deployment.log)
    await deployment.live_on()
    assert await deployment.registry.latest_version() == 1
    assert deployment.log.applied_transitions(), "labels are learned, and become features"
    progress = await deployment.registry.progress()
    assert progress is not None
    assert progress.offsets == {"decisions:0": 240, "labels:0": 41}
    assert deployment.watch.freezes == [FREEZE]
    await deployment.registry.thaw("ann", "done", 2)
    await deployment.live_on()  # a new life, and nothing more is appended
    assert await deployment.registry.latest_version() == 2
    assert deployment.versions()[-1].labels_learned > 0
    assert not deployment.versions()[0].labels_learned


async def test_a_first_version_waits_for_the_thaw_as_well(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    await deployment.registry.freeze(FREEZE)
    await deployment.live_on()
    fill(deployment.log, 0, 40)
    await deployment.live_on()
    assert await deployment.registry.latest_version() == 0
    await deployment.registry.thaw("ann", "", 2)
    await deployment.live_on()
    assert await deployment.registry.latest_version() >= 1


async def test_reasons_freeze_and_the_version_is_withheld(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    await deployment.live_on()
    fill(deployment.log, 0, 60)
    await deployment.live_on()
    known = deployment.versions()[-1]
    doubts = Doubts({known.labels_learned + 1: ["norm: 9e9", "label_rate: 0.4"]})
    deployment.inspector = doubts
    label(deployment, 5)
    await deployment.live_on()
    assert await deployment.registry.latest_version() == known.version
    frozen = await deployment.registry.frozen()
    assert frozen == Freeze(by="learner", why="norm: 9e9; label_rate: 0.4", at_ms=1, cause="checks")
    assert deployment.watch.freezes == [frozen]
    label(deployment, 6)
    await deployment.live_on()
    assert await deployment.registry.latest_version() == known.version
    await deployment.registry.thaw("ann", "a promotion", 2)
    await deployment.live_on()
    newest = deployment.versions()[-1]
    assert (newest.version, newest.labels_learned) == (
        known.version + 1,
        known.labels_learned + 2,
    )
    assert newest.parent_sha256 == sha256_of(dict(deployment.log.weights)[known.version])


async def test_the_inspector_hears_when_its_freeze_is_thawed(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log, 0, 60)
    await deployment.live_on()
    known = deployment.versions()[-1]
    deployment.inspector = doubts = Doubts({known.labels_learned + 1: ["rate: 1"]})
    store = deployment.store()
    loop = deployment.loop(store)
    await loop.recover()
    label(deployment, 5)
    await learn_all(deployment, loop)
    assert doubts.heard[-2:] == [False, True], "before the look, and when it froze"
    await deployment.registry.thaw("ann", "", 1)
    await loop.turn()
    store.close()
    assert doubts.heard[-2:] == [False, True], "it has its reason still, and froze again"
    assert await deployment.registry.frozen() is not None


async def test_what_the_inspector_returns_is_published_and_is_the_next_parent(
    tmp_path: Path,
) -> None:
    deployment = Deployment(tmp_path)
    deployment.inspector = doubts = Doubts({}, shift=4.0)
    fill(deployment.log, 0, 60)
    await deployment.live_on()
    versions = deployment.versions()
    assert len(versions) > 3
    assert all(is_delta(data) for _, data in deployment.log.weights[1:])
    assert (versions[0].arrays["scaler.mean"] == 4.0).all()
    assert doubts.previous == [None, *range(1, len(versions))]


async def test_a_version_that_stops_short_is_followed_until_all_that_was_learned_is_said(
    tmp_path: Path,
) -> None:
    deployment = Deployment(tmp_path)
    deployment.inspector = steps = ShortSteps(short=30)
    store = deployment.store()
    loop = deployment.loop(store)
    await loop.recover()
    fill(deployment.log, 0, 40)
    await learn_all(deployment, loop)
    assert steps.asked < 30, "the log ended long before"
    assert await deployment.registry.progress() is None, "nobody may take this for all"
    for _ in range(40):
        deployment.now_s += 1.0
        await loop.turn()
    store.close()
    assert await deployment.registry.latest_version() == steps.asked == 31
    progress = await deployment.registry.progress()
    assert progress is not None
    assert progress.version == 31


async def test_a_version_says_when_the_log_took_the_labels_that_it_learned(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log, 0, 60)
    await deployment.live_on()
    versions = deployment.versions()
    told = [at_ms for weights in versions for at_ms in weights.label_appends_ms]
    labels = [taken for taken in deployment.log.records if taken.kind == "label"]
    assert sorted(told) == sorted(taken.appended_ms for taken in labels)
    assert all(len(weights.label_appends_ms) <= LABELS_TOLD_MAX for weights in versions)


async def test_a_learner_that_lost_its_lease_stops_before_the_next_version(
    tmp_path: Path,
) -> None:
    deployment = Deployment(tmp_path)
    store = deployment.store()
    loop = deployment.loop(store)
    await loop.recover()
    fill(deployment.log, 0, 40)
    await learn_all(deployment, loop)
    before = list(deployment.log.weights)
    deployment.now_s += 2 * TTL_S  # it was silent for longer than its lease lasts
    rival = Tenure(deployment.registry, "rival", TTL_S, lambda: deployment.now_s)
    assert await rival.take() == "rival"
    label(deployment, 5)
    with pytest.raises(LeaseLost, match="rival"):
        await loop.turn()
    store.close()
    assert deployment.log.weights == before


async def test_a_lease_is_renewed_by_turning(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    store = deployment.store()
    loop = deployment.loop(store, "mine")
    await loop.recover()
    for _ in range(40):
        deployment.now_s += TTL_S / 4
        await loop.turn()
        assert await deployment.registry.lease_owner() == "mine"
    store.close()
