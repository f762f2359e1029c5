"""Each version that the registry calls active is loaded, or refused by name; others stay."""

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from api.watch import WeightsWatcher
from models.registry import NoWeights, RegistryUnavailable
from models.scorer_torch import TorchScorer
from models.signing import Signer, ensure_keys
from models.weights import Weights, encode, sha256_of
from models.weights_delta import encode_delta
from tests.builders_weights import probed, some_rows, some_weights, with_arrays
from tests.oracle_forward import logit_of

DIGEST = "d" * 64
N = 9


class Shelf:
    """As much of a registry as a watcher asks for."""

    def __init__(self) -> None:
        self.data: dict[int, bytes] = {}
        self.active = 0
        self.reported: dict[str, int] = {}
        self.away = False
        self.reads: list[int] = []

    async def wait_newer(self, version: int, timeout_s: float) -> int:
        await asyncio.sleep(0)
        if self.away:
            raise RegistryUnavailable("nobody listens")
        return self.active

    async def read(self, version: int) -> bytes:
        self.reads.append(version)
        if version not in self.data:
            raise NoWeights(version)
        return self.data[version]

    async def report_active(self, scorer_id: str, version: int) -> None:
        self.reported[scorer_id] = version


class Ear:
    def __init__(self) -> None:
        self.activated: list[int] = []
        self.labels: list[list[int]] = []
        self.refused: list[tuple[int, str]] = []
        self.failures = 0

    def weights_activated(self, weights: Weights, label_appends_ms: Sequence[int]) -> None:
        self.activated.append(weights.version)
        self.labels.append(list(label_appends_ms))

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


async def test_labels_are_named_when_they_begin_to_serve_and_not_again(tmp_path: Path) -> None:
    post = Post(tmp_path)
    for version in (1, 2, 3):
        weights = some_weights(DIGEST, N, version=version)
        appends_ms = [10 * version, 10 * version + 1]
        post.publish(dataclasses.replace(weights, label_appends_ms=appends_ms))
        await post.watcher.step(0.0)
    post.shelf.active = 2
    await post.watcher.step(0.0)
    assert post.ear.activated == [1, 2, 3, 2]
    assert post.ear.labels == [[], [20, 21], [30, 31], []], "a first version, and one gone back to"


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


def next_of(before: Weights, version: int) -> Weights:
    """The same with another bias: a small change of a large version."""
    bias = np.full((1, 16), version / 10, np.float32)
    after = with_arrays(before, delayed__network__b0=bias)
    return probed(dataclasses.replace(after, version=version))


class Deltas(Post):
    """A post whose versions are deltas, but for the first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.newest = some_weights(DIGEST, N)
        self.publish(self.newest)

    def publish_next(self, *, told: bool = True) -> Weights:
        before = self.newest
        current = next_of(before, before.version + 1)
        current = dataclasses.replace(
            current, parent_sha256=sha256_of(self.shelf.data[before.version])
        )
        self.shelf.data[current.version] = encode_delta(before, current, self.signer)
        if told:
            self.shelf.active = current.version
        self.newest = current
        return current

    def answers(self) -> np.ndarray:
        with self.scorer.snapshot() as snapshot:
            return snapshot.score_many(some_rows(4, N)).logit


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
    post.shelf.active = 3
    assert await post.watcher.step(0.0)
    np.testing.assert_allclose(post.answers(), logit_of(weights[2], some_rows(4, N)), rtol=1e-5)
    post.shelf.active = 4
    post.shelf.reads.clear()
    assert await post.watcher.step(0.0)
    assert post.shelf.reads == [4]


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
