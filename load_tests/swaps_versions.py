"""seed, number → a signed version, the same in every process: published, and computed again.

All weights of a version, and its calibration, differ from those of its neighbours, so that an
answer made of two versions is no version's. Steps are honest and within the scorer's gates.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from models.formula_torch import TorchFormula
from models.scorer import baseline_of
from models.signing import Signer, load_signer
from models.slew import StepBounds as Steps
from models.slew import answered, bounded
from models.weights import LaneRef, MemberRef, Weights, encode, sha256_of
from models.weights_kinds import network_shapes, shared_shapes

HIDDEN = (64, 32)
PROBES = 5
SHIFT = 0.1
"""Log-odds by which every second version lies above its neighbours."""
CYCLE = 997
SPREAD = 0.02
"""Versions differ in each weight by up to this part of it."""
LABELS = 1_000_000
"""Learned labels, by its own words, of every version: all gates of a grown model apply."""


@dataclass(frozen=True)
class Line:
    """A line of versions of one spec.

    Attributes:
        digest: Of the feature spec.
        n_features: Length of a vector.
    """

    seed: int
    digest: str
    n_features: int

    def weights(self, number: int, parent_sha256: str = "") -> Weights:
        """Return a version; its step is 0 unless `signed` made it."""
        factor = np.float32(1 + SPREAD * (number * 389 % CYCLE) / CYCLE)
        learned = {
            name: array * factor if name.startswith("delayed.") else array
            for name, array in self._first.arrays.items()
        }
        lane = msgspec.structs.replace(self._first.lanes[0], b=SHIFT * (number % 2))
        changed = replace(
            self._first,
            version=number,
            parent_sha256=parent_sha256,
            arrays=learned,
            lanes=(lane,),
        )
        return answered(changed, TorchFormula())

    def signed(self, number: int, parent_sha256: str, signer: Signer) -> bytes:
        """Return the bytes of a version, with the step from the one before."""
        now = self.weights(number, parent_sha256)
        if parent_sha256:
            far = Steps(mean_logit=100.0, max_logit=100.0)
            step = bounded(self.weights(number - 1), now, far, TorchFormula()).step
            now = replace(now, step=step)
        return encode(now, signer)

    @cached_property
    def _first(self) -> Weights:
        rng = np.random.default_rng(self.seed)
        n = self.n_features
        arrays = {
            name: np.zeros(shape, np.float32)
            for name, (_, shape) in shared_shapes(n, PROBES).items()
        }
        arrays["scaler.mean"] = rng.uniform(0, 4, n).astype(np.float32)
        arrays["scaler.scale"] = rng.uniform(0.5, 2, n).astype(np.float32)
        arrays["quantiles"] = np.linspace(0, 1, 1001, dtype=np.float32)
        for name, (_, shape) in network_shapes(n, HIDDEN, 1, {}).items():
            size = 0.5 / np.sqrt(shape[-1])
            arrays[f"delayed.network.{name}"] = (rng.normal(size=shape) * size).astype(np.float32)
        weights = Weights(
            model="champion",
            version=1,
            schema_digest=self.digest,
            parent_sha256="",
            offsets={},
            learned_until_ms=0,
            labels_learned=LABELS,
            created_at_ms=0,
            metrics={},
            code_version="load",
            lanes=(LaneRef(name="delayed", weight=1.0),),
            members=(MemberRef(lane="delayed", name="network", kind="network", weight=1.0),),
            arrays=arrays,
        )
        usual = baseline_of(weights) * rng.uniform(0, 3, (PROBES, n))
        return replace(weights, arrays={**arrays, "probe.x": usual.astype(np.float32)})


def sign_many(
    line: Line, first: int, count: int, parent_sha256: str, signer_path: str
) -> list[bytes]:
    """Return so many versions from `first` on, each the parent of the next."""
    signer = load_signer(Path(signer_path))
    found = []
    for number in range(first, first + count):
        found.append(line.signed(number, parent_sha256, signer))
        parent_sha256 = sha256_of(found[-1])
    return found
