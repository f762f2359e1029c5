"""Learners of an old and a new spec: each takes its own vectors, and one of them sends labels."""

from pathlib import Path

import numpy as np
import pytest

from models.learner import StateMismatch
from models.weights import Weights
from pipeline.learn_duty import LabelsTaken
from tests.builders_learn import DAY, DIGEST, FEATURES, START, a_decision, a_label
from tests.deployment_learn import Deployment, fill
from tests.fakes_learn import MemoryLearnLog

OTHER = "e" * 64


def beside(old: Deployment, folder: Path, *, sends_labels: bool = False) -> Deployment:
    """A learner of another spec on the same log, with a disk and a line of its own."""
    new = Deployment(folder, OTHER, sends_labels)
    new.log._records = old.log._records
    new.registry.sender = old.registry.sender  # one for all lines
    return new


def append_of(log: MemoryLearnLog, digest: str, first: int, count: int, frauds: int) -> None:
    """Decisions of one spec, the first of which turn out to be fraud."""
    draws = np.random.default_rng(first)
    for index in range(first, first + count):
        x = draws.lognormal(0, 1, FEATURES).astype(np.float32)
        at = START + 20 * DAY + index * DAY / 400
        log.append("decision", a_decision(f"n{index}", at, x, digest=digest))
        if index < first + frauds:
            log.append("label", a_label(f"n{index}", "fraud", at + DAY / 24))


def newest(deployment: Deployment) -> Weights:
    return deployment.versions()[-1]


async def test_two_learners_publish_side_by_side_and_one_sends_labels(tmp_path: Path) -> None:
    for name in ("alone", "old", "new"):
        (tmp_path / name).mkdir()
    alone, old = Deployment(tmp_path / "alone"), Deployment(tmp_path / "old")
    for each in (alone, old):
        fill(each.log)
        append_of(each.log, OTHER, 0, 60, 6)
        await each.live_on()
    new = beside(old, tmp_path / "new")
    await new.live_on()
    assert old.log.applied_transitions() == alone.log.applied_transitions()
    assert new.log.transitions == []
    assert (newest(old).schema_digest, newest(new).schema_digest) == (DIGEST, OTHER)
    assert new.registry.sender == old.registry.sender


async def test_a_second_sender_is_refused_by_name(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old = Deployment(tmp_path / "old")
    fill(old.log)
    await old.live_on()
    new = beside(old, tmp_path / "new", sends_labels=True)
    with pytest.raises(LabelsTaken, match="RISKBEAT_LEARN_SENDS_LABELS=false"):
        await new.live()
    assert new.log.transitions == []


@pytest.mark.parametrize("first", [True, False])
async def test_a_learner_neither_stops_sending_nor_begins_to(first: bool, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, sends_labels=first)
    fill(deployment.log)
    await deployment.live_on()
    sent = len(deployment.log.transitions)
    deployment.sends_labels = not first
    with pytest.raises(LabelsTaken):
        await deployment.live()
    assert len(deployment.log.transitions) == sent


async def test_for_a_changed_spec_learning_begins_anew_and_labels_go_on(tmp_path: Path) -> None:
    for name in ("alone", "changed"):
        (tmp_path / name).mkdir()
    alone, changed = Deployment(tmp_path / "alone"), Deployment(tmp_path / "changed")
    for each in (alone, changed):
        fill(each.log)
        await each.live_on()
    before = newest(changed)
    changed.digest = OTHER
    with pytest.raises(StateMismatch):
        await changed.live()
    changed.registry.lose_last(before.version)  # the new spec has a line of its own, still empty
    changed.log.weights = []
    changed.anew = True
    await changed.live_on()
    changed.anew = False
    assert (newest(changed).version, newest(changed).schema_digest) == (1, OTHER)
    assert newest(changed).labels_learned == 0
    for each in (alone, changed):
        append_of(each.log, OTHER, 0, 60, 6)
        await each.live_on()
    assert changed.log.applied_transitions() == alone.log.applied_transitions()
    assert newest(changed).labels_learned > 0


async def test_beginning_anew_goes_on_from_the_newest_number_of_its_line(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log)
    await deployment.live_on()
    before = await deployment.registry.latest_version()
    deployment.anew = True
    await deployment.live_on()
    assert await deployment.registry.latest_version() == before + 1
