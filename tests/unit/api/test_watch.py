"""Each version that the registry calls active is loaded, or refused by name; others stay."""

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.slots import LEFT_MAX
from models.weights import Weights, sha256_of
from tests.builders_weights import probed, some_weights, with_arrays
from tests.watching import DIGEST, N, Post


async def test_versions_become_active_and_are_reported(tmp_path: Path) -> None:
    post = Post(tmp_path)
    assert not await post.watcher.step(0.0)
    assert post.shelf.reported == {}
    for version in (1, 2, 5):
        post.publish(some_weights(DIGEST, N, version=version))
        assert await post.watcher.step(0.0)
        assert post.shelf.reported == {"me": version}
        snapshot = post.scorer.snapshot()
        assert snapshot.weights.version == version
        assert snapshot.sha256 == sha256_of(post.shelf.data[version])
    assert not await post.watcher.step(0.0)
    assert post.ear.activated == [1, 2, 5]


async def test_labels_are_named_when_they_begin_to_serve_and_not_again(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for version in (1, 2, 3):
        weights = some_weights(DIGEST, N, version=version)
        appends_ms = [10 * version, 10 * version + 1]
        post.publish(dataclasses.replace(weights, label_appends_ms=appends_ms))
        await post.watcher.step(0.0)
    post.shelf.pin(2)
    await post.watcher.step(0.0)
    assert post.ear.activated == [1, 2, 3, 2]
    assert post.ear.labels == [[], [20, 21], [30, 31], []], "a first version, and one gone back to"


async def test_a_rollback_is_followed_and_what_is_held_is_not_read_again(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for version in (1, 2, 3):
        post.publish(some_weights(DIGEST, N, version=version))
        await post.watcher.step(0.0)
    post.shelf.reads.clear()
    for version in (2, 3, 2):
        post.shelf.pin(version)
        assert await post.watcher.step(0.0)
        assert post.scorer.snapshot().weights.version == version
        assert post.shelf.reported == {"me": version}
    assert post.shelf.reads == []
    assert post.ear.activated == [1, 2, 3, 2, 3, 2]


async def test_an_older_version_that_nobody_asked_for_is_stale(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for version in (1, 2, 3):
        post.publish(some_weights(DIGEST, N, version=version))
        await post.watcher.step(0.0)
    del post.shelf.data[3]  # a store that lost its last second
    post.shelf.active = 2
    for _ in range(3):
        assert not await post.watcher.step(0.0)
    assert post.ear.refused == [(2, "stale")]
    assert post.scorer.snapshot().weights.version == 3
    assert post.shelf.reported == {"me": 3}
    post.shelf.pinned = True  # a pin that is written down nowhere
    assert not await post.watcher.step(0.0)
    post.shelf.pin(1)
    post.shelf.active = 2  # a pin of another version
    assert not await post.watcher.step(0.0)
    assert post.scorer.snapshot().weights.version == 3
    post.shelf.pin(2)
    assert await post.watcher.step(0.0)
    assert post.scorer.snapshot().weights.version == 2


async def test_a_scorer_that_starts_does_not_take_a_stale_version_either(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for version in (1, 2):
        post.publish(some_weights(DIGEST, N, version=version))
    post.shelf.active = 1
    assert not await post.watcher.step(0.0)
    assert post.ear.refused == [(1, "stale")]
    post.shelf.active = 2
    assert await post.watcher.step(0.0)


async def test_a_refused_version_is_taken_once_somebody_pins_it(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.publish(dataclasses.replace(some_weights(DIGEST, N, version=1), labels_learned=9_000))
    await post.watcher.step(0.0)
    wild = some_weights(DIGEST, N, version=2)
    bias = wild.arrays["delayed.network.b2"] + np.float32(40)
    post.publish(probed(with_arrays(wild, delayed__network__b2=bias)))
    for _ in range(3):
        assert not await post.watcher.step(0.0)
    assert post.ear.refused == [(2, "step")]
    post.shelf.pin(2)
    assert await post.watcher.step(0.0)
    assert post.scorer.snapshot().weights.version == 2
    assert not await post.watcher.step(0.0)
    post.shelf.pinned = False  # the pin is lifted: it goes on as it is
    assert not await post.watcher.step(0.0)
    assert post.ear.activated == [1, 2]


async def test_a_version_that_came_while_all_was_busy_is_tried_again(tmp_path: Path) -> None:
    post = Post(tmp_path)
    holds = []
    for version in range(1, LEFT_MAX + 4):
        post.publish(some_weights(DIGEST, N, version=version))
        assert await post.watcher.step(0.0)
        holds.append(post.scorer.snapshot().__enter__())
    post.publish(some_weights(DIGEST, N, version=99))
    assert not await post.watcher.step(0.0)
    assert post.ear.refused == [(99, "busy")]
    holds[0].__exit__(None, None, None)
    assert await post.watcher.step(0.0)
    assert post.scorer.snapshot().weights.version == 99


async def test_what_the_fleet_answers_with_is_asked_for_now_and_then(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for version in (1, 2, 3):
        post.publish(some_weights(DIGEST, N, version=version))
        await post.watcher.step(0.0)
    assert post.ear.fleet == [{"me": 1, "another": 1}]


def a_faulty(gate: str) -> Weights:
    good = some_weights(DIGEST, N, version=2)
    if gate == "digest":
        return dataclasses.replace(good, schema_digest="e" * 64)
    if gate == "golden":
        return with_arrays(good, probe__logit=good.arrays["probe.logit"] + 1)
    if gate == "content":
        return with_arrays(
            good, delayed__network__b0=good.arrays["delayed.network.b0"] * float("inf")
        )
    return good


@pytest.mark.parametrize("gate", ["signature", "digest", "golden", "content"])
async def test_a_refused_version_is_named_once_and_the_active_one_stays(
    tmp_path: Path, gate: str
) -> None:
    post = Post(tmp_path)
    post.publish(some_weights(DIGEST, N, version=1))
    await post.watcher.step(0.0)
    post.publish(a_faulty(gate), post.stranger if gate == "signature" else None)
    assert not await post.watcher.step(0.0)
    assert not await post.watcher.step(0.0)
    assert post.ear.refused == [(2, gate)]
    assert post.scorer.snapshot().weights.version == 1
    assert post.shelf.reported == {"me": 1}
    post.publish(some_weights(DIGEST, N, version=3))
    assert await post.watcher.step(0.0)


async def test_a_version_that_left_the_shelf_is_refused(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.shelf.active = 4
    assert not await post.watcher.step(0.0)
    assert post.ear.refused == [(4, "content")]


async def test_an_absent_registry_is_waited_for(tmp_path: Path) -> None:
    post = Post(tmp_path)
    post.shelf.away = True
    post.publish(some_weights(DIGEST, N))
    stopping = asyncio.Event()
    running = asyncio.create_task(post.watcher.run(stopping))
    async with asyncio.timeout(20):
        while not post.ear.failures:  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)
        post.shelf.away = False
        while not post.ear.activated:  # noqa: ASYNC110 - polled with a deadline
            await asyncio.sleep(0.001)
    stopping.set()
    await running
    assert post.watcher.active == 1
