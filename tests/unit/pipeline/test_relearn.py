"""Versions follow from a checkpoint and the log, bit for bit, whatever froze or died."""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.registry import Freeze
from models.weights import Weights, sha256_of
from pipeline.cuts import CUTS_MAX
from pipeline.join_sqlite import SqliteJoinStore
from pipeline.relearn import CannotRelearn, Compared, Relearner, Shown, cuts_of, differences
from tests.builders_learn import a_decision
from tests.deployment_learn import Deployment, a_step, fill, parse_rules


async def relearn(
    deployment: Deployment, folder: Path, first: int = 1, checkpoint: Path | None = None
) -> list[Compared]:
    store = SqliteJoinStore(checkpoint or folder / "again.sqlite")
    versions = deployment.versions()
    bodies = dict(deployment.log.weights)
    shown = [
        Shown(w, sha256_of(bodies[w.version]), cuts_of(w, deployment.log.pages))
        for w in versions
        if w.version >= first
    ]
    relearner = Relearner(parse_rules(), deployment.log, store, a_step(store))
    try:
        begun = relearner.begin(versions[first - 2] if first > 1 else None)
        assert begun == first - 1
        return [compared async for compared in relearner.compare_many(shown)]
    finally:
        store.close()


def all_equal(found: Sequence[Compared], deployment: Deployment, first: int = 1) -> bool:
    numbers = [version for version, _ in deployment.log.weights if version >= first]
    return found == [Compared(number, ()) for number in sorted(set(numbers))]


async def test_every_version_follows_from_nothing_and_the_log(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log)
    await deployment.live_on()
    assert len(deployment.log.weights) > 5
    assert all_equal(await relearn(deployment, tmp_path), deployment)


@pytest.mark.parametrize("place", ["after commit", "before weights", "before registry", "poll"])
async def test_a_death_leaves_no_trace_in_what_follows(place: str, tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log)
    deployment.fuse.at = (place, 4)
    await deployment.live_on()
    assert deployment.lives == 2
    assert all_equal(await relearn(deployment, tmp_path), deployment)


async def test_later_versions_follow_from_a_checkpoint(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log, 0, 100)
    await deployment.live_on()
    newest = deployment.log.weights[-1][0]
    copy = tmp_path / "copy.sqlite"
    shutil.copy(tmp_path / "join.sqlite", copy)
    fill(deployment.log, 100, 240)
    await deployment.live_on()
    assert deployment.log.weights[-1][0] > newest + 2
    found = await relearn(deployment, tmp_path, newest + 1, copy)
    assert all_equal(found, deployment, newest + 1)


async def test_what_was_learned_while_frozen_follows_too(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    fill(deployment.log, 0, 60)
    await deployment.live_on()
    newest = deployment.log.weights[-1][0]
    await deployment.registry.freeze(Freeze(by="ann", why="", at_ms=1, cause="operator"))
    for life in range(3):
        store = deployment.store()
        loop = deployment.loop(store)
        await loop.recover()
        for index in range(CUTS_MAX):  # over all lives more takes than a manifest holds
            at = 60 + life * CUTS_MAX + index
            fill(deployment.log, at, at + 1)
            await loop.turn()
        store.close()  # as after kill -9: the end is not committed
    assert deployment.log.weights[-1][0] == newest
    assert len(deployment.log.pages) > 1
    await deployment.registry.thaw("ann", "", 2)
    fill(deployment.log, 1500, 1510)
    await deployment.live_on()
    assert deployment.log.weights[-1][0] > newest
    assert all_equal(await relearn(deployment, tmp_path), deployment)
    deployment.log.pages.popitem()
    with pytest.raises(CannotRelearn, match="page"):
        await relearn(deployment, tmp_path / "more")


async def test_so_many_takes_make_a_version_though_nothing_was_learned(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    await deployment.live_on()
    store = deployment.store()
    loop = deployment.loop(store)
    await loop.recover()
    for index in range(CUTS_MAX + 5):
        deployment.log.append("decision", a_decision(f"e{index}"))
        await loop.turn()
    store.close()
    assert [version for version, _ in deployment.log.weights] == [1, 2]
    assert all_equal(await relearn(deployment, tmp_path), deployment)


async def test_another_log_leads_elsewhere_and_the_difference_is_named(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    deployment, other = Deployment(tmp_path), Deployment(tmp_path / "other")
    other.share_keys(deployment)
    fill(deployment.log)
    await deployment.live_on()
    fill(other.log, 1, 241)
    other.log.weights = deployment.log.weights
    found = await relearn(other, tmp_path)
    assert found[0].differences == ()  # the prior has seen nothing of either
    assert any(compared.differences for compared in found[1:])


def test_differences_name_fields_and_arrays(tmp_path: Path) -> None:
    store = SqliteJoinStore(tmp_path / "join.sqlite")
    one: Weights = a_step(store).snapshot(1, "test")
    store.close()
    assert list(differences(one, one)) == []
    table = one.arrays["delayed.table.embed.0"].copy()
    table[3, 1] += np.float32(0.5)
    other = dataclasses.replace(
        one, labels_learned=9, arrays={**one.arrays, "delayed.table.embed.0": table}
    )
    assert list(differences(one, other)) == [
        "labels_learned: 0 and 9",
        "delayed.table.embed.0: 1 of 20000 numbers, by up to 0.5",
    ]
