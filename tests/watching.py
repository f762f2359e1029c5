"""A watcher between a shelf and a scorer, all in memory."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from api.watch import WeightsWatcher
from models.registry import Activation, NoWeights, RegistryUnavailable, Standing
from models.scorer_local import LocalScorer
from models.signing import Signer, ensure_keys
from models.slew import movement
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
        self.pinned = False
        self.acts: list[Activation] = []
        self.reported: dict[str, int] = {}
        self.away = False
        self.reads: list[int] = []

    async def wait_newer(self, version: int, timeout_s: float) -> int:
        await asyncio.sleep(0)
        if self.away:
            raise RegistryUnavailable("nobody listens")
        return self.active

    async def standing(self) -> Standing:
        latest = max(self.data, default=self.active)
        return Standing(latest=latest, active=self.active, pinned=self.pinned)

    async def history(self) -> list[Activation]:
        return self.acts

    async def active_versions(self) -> dict[str, int]:
        return {**self.reported, "another": 1}

    def pin(self, version: int) -> None:
        self.active, self.pinned = version, True
        self.acts.insert(0, Activation(act="pin", version=version, by="me", why="", at_ms=0))

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
        self.fleet: list[dict[str, int]] = []

    def fleet_seen(self, versions: Mapping[str, int]) -> None:
        self.fleet.append(dict(versions))

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
        self.scorer = LocalScorer(DIGEST, N, "test", "cpu")
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


def next_of(before: Weights, version: int) -> Weights:
    """The same with another bias: a small change of a large version."""
    bias = np.full((1, 16), version / 10, np.float32)
    after = with_arrays(before, delayed__network__b0=bias)
    after = probed(dataclasses.replace(after, version=version))
    probe = after.arrays["probe.x"]
    return dataclasses.replace(
        after, step=movement(logit_of(before, probe), logit_of(after, probe))
    )


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
