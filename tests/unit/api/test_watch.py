"""Each version that the registry calls active is loaded, or refused by name; others stay."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from api.watch import WeightsWatcher
from models.registry import NoWeights, RegistryUnavailable
from models.scorer_torch import TorchScorer
from models.signing import Signer, ensure_keys
from models.weights import Weights, encode, sha256_of
from tests.builders_weights import some_weights, with_arrays

DIGEST = "d" * 64
N = 9


class Shelf:
    """As much of a registry as a watcher asks for."""

    def __init__(self) -> None:
        self.data: dict[int, bytes] = {}
        self.active = 0
        self.reported: dict[str, int] = {}
        self.away = False

    async def wait_newer(self, version: int, timeout_s: float) -> int:
        await asyncio.sleep(0)
        if self.away:
            raise RegistryUnavailable("nobody listens")
        return self.active

    async def read(self, version: int) -> bytes:
        if version not in self.data:
            raise NoWeights(version)
        return self.data[version]

    async def report_active(self, scorer_id: str, version: int) -> None:
        self.reported[scorer_id] = version


class Ear:
    def __init__(self) -> None:
        self.activated: list[int] = []
        self.refused: list[tuple[int, str]] = []
        self.failures = 0

    def weights_activated(self, weights: Weights) -> None:
        self.activated.append(weights.version)

    def weights_refused(self, version: int, gate: str, detail: str) -> None:
        assert detail
        self.refused.append((version, gate))

    def registry_failed(self, detail: str) -> None:
        self.failures += 1


class Post:
    def __init__(self, folder: Path) -> None:
        self.signer: Signer = ensure_keys(folder / "a.pem", folder / "a.pub")
        self.stranger: Signer = ensure_keys(folder / "b.pem", folder / "b.pub")
        self.shelf, self.ear = Shelf(), Ear()
        self.scorer = TorchScorer(DIGEST, N, "test", "cpu")
        self.watcher = WeightsWatcher(
            self.shelf,  # type: ignore[arg-type]
            self.scorer,
            [self.signer.public_key],
            "me",
            self.ear,
            0.0,
        )

    def publish(self, weights: Weights, signer: Signer | None = None) -> None:
        self.shelf.data[weights.version] = encode(weights, signer or self.signer)
        self.shelf.active = weights.version


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


async def test_a_rollback_is_followed(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for version in (1, 2):
        post.publish(some_weights(DIGEST, N, version=version))
        await post.watcher.step(0.0)
    post.shelf.active = 1
    assert await post.watcher.step(0.0)
    assert post.scorer.snapshot().weights.version == 1


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
