"""A learner process that is killed at random: no version and no label is lost or doubled."""

import asyncio
import random
import signal
from functools import partial
from pathlib import Path

import msgspec
import pytest

from features.event import identity
from features.update import LabelTransition
from models.signing import load_public_keys
from models.weights import Weights, decode_verified, sha256_of
from models.weights_delta import apply_delta, is_delta
from tests.live.learning import Place, caught_up, feed, published, until

pytestmark = pytest.mark.live

KILLS = 5
EVENTS = 1500


async def test_kill_9_loses_and_doubles_nothing(place: Place) -> None:
    draws = random.Random(11)
    labels = 0
    share = EVENTS // (KILLS + 1)
    for life in range(KILLS + 1):
        learner = await place.learner()
        labels += await feed(place, life * share, (life + 1) * share)
        if life == KILLS:
            break
        await until(partial(published, place, 1 + life))
        await asyncio.sleep(draws.uniform(0.0, 0.3))  # any moment will do
        learner.send_signal(signal.SIGKILL)
        await learner.wait()
    await until(lambda: caught_up(place))
    learner.send_signal(signal.SIGTERM)
    assert await learner.wait() == 0
    await check_versions(place, labels)
    await check_transitions(place, labels)


async def check_versions(place: Place, labels: int) -> None:
    keys = load_public_keys(place.folder / "public.pem")
    versions: dict[int, bytes] = {}
    for _, key, value in await place.read_all(place.weights):
        number = int(key.rpartition(b":")[2])
        assert versions.setdefault(number, value) == value, "a version has two meanings"
    assert sorted(versions) == list(range(1, len(versions) + 1))
    parent = ""
    learned = -1
    weights: Weights | None = None
    for number in sorted(versions):
        data = versions[number]
        if weights is not None and is_delta(data):
            weights = apply_delta(weights, data, keys)
        else:
            weights = decode_verified(data, keys)
        assert (weights.version, weights.parent_sha256) == (number, parent)
        assert weights.labels_learned > learned
        learned = weights.labels_learned
        parent = sha256_of(versions[number])
    assert learned == labels
    async with place.registry() as registry:
        assert await registry.latest_version() == len(versions)
        assert await registry.read(len(versions)) == versions[len(versions)]


async def check_transitions(place: Place, labels: int) -> None:
    newest: dict[int, int] = {}
    subjects = []
    for partition, key, value in await place.read_all(place.topics.label_updates):
        transition = msgspec.json.decode(value, type=LabelTransition)
        if transition.seq <= newest.get(partition, 0):
            continue
        assert transition.seq == newest.get(partition, 0) + 1
        newest[partition] = transition.seq
        subject = identity(transition.tenant, transition.event_type, transition.event_id)
        assert key.decode() == subject
        assert transition.sign == 1
        subjects.append(subject)
    assert len(subjects) == len(set(subjects)) == labels


async def test_a_second_learner_on_the_same_disk_is_refused(place: Place) -> None:
    first = await place.learner()
    await until(lambda: published(place, 1))
    second = await place.learner()
    assert await second.wait() == 3
    first.send_signal(signal.SIGTERM)
    assert await first.wait() == 0


async def test_a_learner_that_lost_its_disk_is_refused(place: Place, tmp_path: Path) -> None:
    first = await place.learner()
    await until(lambda: published(place, 1))
    first.send_signal(signal.SIGTERM)
    assert await first.wait() == 0
    elsewhere = place.on_another_disk(tmp_path / "other")
    second = await elsewhere.learner()
    assert await second.wait() == 3
