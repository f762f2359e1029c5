"""Killed at any numbered step, the learner goes on as if it had never stopped, bit for bit."""

import asyncio
from pathlib import Path

import pytest

from models.signing import load_public_keys
from models.weights import decode_verified, sha256_of
from models.weights_delta import apply_delta, is_delta
from pipeline.publish import CheckpointLost
from tests.deployment_learn import Deployment, fill

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
    disturbed.share_keys(undisturbed)
    fill(disturbed.log)
    disturbed.fuse.at = (place, nth)
    await disturbed.live_on()
    assert disturbed.lives == 2
    assert dict(disturbed.log.weights) == dict(undisturbed.log.weights)
    assert disturbed.log.applied_transitions() == undisturbed.log.applied_transitions()
    assert await disturbed.registry.standing() == await undisturbed.registry.standing()
    assert await disturbed.registry.progress() == await undisturbed.registry.progress()


async def test_versions_are_consecutive_and_know_their_parents(undisturbed: Deployment) -> None:
    parent = ""
    for number, weights in enumerate(undisturbed.versions(), start=1):
        data = dict(undisturbed.log.weights)[number]
        assert (weights.version, weights.parent_sha256) == (number, parent)
        assert await undisturbed.registry.read(number) == data
        parent = sha256_of(data)
    assert number == len(undisturbed.log.weights)


async def test_a_chain_of_the_registry_is_the_version_that_was_learned(
    undisturbed: Deployment,
) -> None:
    keys = load_public_keys(undisturbed.folder / "public")
    bases = [is_delta(data) for _, data in undisturbed.log.weights]
    assert bases[0] == 0
    assert all(bases[1:]), "so few rows of the table move that deltas are worth it"
    for expected in undisturbed.versions():
        chain = await undisturbed.registry.read_chain(expected.version)
        weights = decode_verified(chain[0], keys)
        for delta in chain[1:]:
            weights = apply_delta(weights, delta, keys, undisturbed.digest)
        assert {n: a.tobytes() for n, a in weights.arrays.items()} == {
            n: a.tobytes() for n, a in expected.arrays.items()
        }


@pytest.mark.parametrize(("full_every", "expected"), [(1, 0), (2, 1), (5, 4)])
async def test_a_full_version_comes_at_least_so_often(
    full_every: int, expected: int, tmp_path: Path
) -> None:
    deployment = Deployment(tmp_path)
    deployment.full_every = full_every
    fill(deployment.log)
    await deployment.live_on()
    longest = run = 0
    for _, data in deployment.log.weights:
        run = run + 1 if is_delta(data) else 0
        longest = max(longest, run)
    assert longest == expected


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
