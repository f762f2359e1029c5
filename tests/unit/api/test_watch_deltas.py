"""Versions that travel as deltas are built upon what is at hand, or read back."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.weights import sha256_of
from models.weights_delta import encode_delta
from tests.builders_weights import some_rows, some_weights, with_arrays
from tests.oracle_forward import logit_of
from tests.watching import DIGEST, Deltas, N, next_of


async def test_deltas_are_applied_to_the_version_at_hand(tmp_path: Path) -> None:
    post = Deltas(tmp_path)
    await post.watcher.step(0.0)
    for _ in range(5):
        current = post.publish_next()
        post.shelf.reads.clear()
        assert await post.watcher.step(0.0)
        assert post.shelf.reads == [current.version]
        np.testing.assert_allclose(post.answers(), logit_of(current, some_rows(4, N)), rtol=1e-5)
        assert post.scorer.snapshot().sha256 == sha256_of(post.shelf.data[current.version])
    assert post.ear.activated == [1, 2, 3, 4, 5, 6]


async def test_versions_that_were_missed_are_read_back_to_the_one_at_hand(tmp_path: Path) -> None:
    post = Deltas(tmp_path)
    post.publish_next()
    await post.watcher.step(0.0)
    for _ in range(3):
        current = post.publish_next(told=False)
    post.shelf.active = current.version
    post.shelf.reads.clear()
    assert await post.watcher.step(0.0)
    assert post.shelf.reads == [5, 4, 3]
    np.testing.assert_allclose(post.answers(), logit_of(current, some_rows(4, N)), rtol=1e-5)


async def test_a_rollback_to_a_delta_is_read_back_to_a_full_version(tmp_path: Path) -> None:
    post = Deltas(tmp_path)
    weights = [post.newest]
    for _ in range(3):
        weights.append(post.publish_next())
    await post.watcher.step(0.0)
    post.shelf.pin(3)
    assert await post.watcher.step(0.0)
    np.testing.assert_allclose(post.answers(), logit_of(weights[2], some_rows(4, N)), rtol=1e-5)
    post.shelf.active = 4
    post.shelf.reads.clear()
    assert await post.watcher.step(0.0)
    assert post.shelf.reads == [], "it was still held"
    np.testing.assert_allclose(post.answers(), logit_of(weights[3], some_rows(4, N)), rtol=1e-5)


async def test_a_version_that_the_golden_gate_refused_is_still_built_upon(tmp_path: Path) -> None:
    post = Deltas(tmp_path)
    await post.watcher.step(0.0)
    wrong = with_arrays(next_of(post.newest, 2), probe__logit=np.zeros(5, np.float32))
    wrong = dataclasses.replace(wrong, parent_sha256=sha256_of(post.shelf.data[1]))
    post.shelf.data[2] = encode_delta(post.newest, wrong, post.signer)
    post.shelf.active, post.newest = 2, wrong
    assert not await post.watcher.step(0.0)
    assert post.ear.refused == [(2, "golden")]
    current = post.publish_next()
    post.shelf.reads.clear()
    assert await post.watcher.step(0.0)
    assert post.shelf.reads == [3]
    np.testing.assert_allclose(post.answers(), logit_of(current, some_rows(4, N)), rtol=1e-5)


@pytest.mark.parametrize("fault", ["missing", "stranger", "checksum"])
async def test_a_delta_without_a_sound_base_is_refused_and_the_next_full_version_heals(
    tmp_path: Path, fault: str
) -> None:
    post = Deltas(tmp_path)
    await post.watcher.step(0.0)
    before = post.answers()
    middle = post.publish_next(told=False)
    if fault == "stranger":
        post.shelf.data[2] = encode_delta(some_weights(DIGEST, N), middle, post.stranger)
    elif fault == "checksum":  # it says that nothing changed
        post.shelf.data[2] = encode_delta(
            dataclasses.replace(middle, version=1), middle, post.signer
        )
    parent = sha256_of(post.shelf.data[2])
    if fault == "missing":
        del post.shelf.data[2]
    last = dataclasses.replace(next_of(middle, 3), parent_sha256=parent)
    post.shelf.data[3] = encode_delta(middle, last, post.signer)
    post.shelf.active = 3
    assert not await post.watcher.step(0.0)
    gate = "signature" if fault == "stranger" else "content"
    assert post.ear.refused == [(3, gate)]
    assert (post.answers() == before).all()
    assert post.shelf.reported == {"me": 1}
    post.publish(some_weights(DIGEST, N, version=4))
    assert await post.watcher.step(0.0)
    assert post.scorer.snapshot().weights.version == 4
