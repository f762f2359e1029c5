"""A line of versions as a learner publishes it: full ones, and deltas between."""

from dataclasses import replace

import numpy as np

from features.spec import Spec
from models.signing import Signer
from models.weights import Weights, encode, sha256_of
from models.weights_delta import encode_delta
from models.weights_manifest import Step
from tests.builders_weights import an_ensemble, probed, with_arrays

FULL_EVERY = 3
MOVED = 0.25


def versions_of(spec: Spec, signer: Signer, count: int) -> tuple[list[Weights], dict[int, bytes]]:
    """Versions that differ in their answers, and the bytes that each is published in."""
    made = [an_ensemble(spec.digest, spec.n_features, version=1)]
    published = {1: encode(made[0], signer)}
    for version in range(2, count + 1):
        before = made[-1]
        bias = before.arrays["delayed.logistic.bias"] + np.float32(MOVED)
        weights = replace(
            probed(with_arrays(before, delayed__logistic__bias=bias)),
            version=version,
            parent_sha256=sha256_of(published[version - 1]),
            step=Step(max_logit=1.0, mean_logit=1.0, max_p=1.0),
        )
        delta = version % FULL_EVERY != 1
        published[version] = (
            encode_delta(before, weights, signer) if delta else encode(weights, signer)
        )
        made.append(weights)
    return made, published
