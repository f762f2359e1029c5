"""A signed version, and what a careless holder of the key might sign instead."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from models.signing import SIGNATURE_BYTES
from models.weights import Step, Weights, encode, manifest_of, sha256_of
from tests.builders_weights import SIGNER, an_ensemble

DIGEST = "a" * 64
N = 4
NETWORK, TREES = "delayed.network", "delayed.boosted.3"


def some_weights(**changes: Any) -> Weights:
    given_fields: dict[str, Any] = {
        "version": 7,
        "parent_sha256": "b" * 64,
        "offsets": {"labels.v1:0": 4, "decisions.v1:1": 9},
        "metrics": {"average_precision": 0.25},
        "step": Step(mean_logit=0.01, max_logit=0.5, max_p=0.02),
        "cuts": [[{"labels.v1:0": 2}, 17], [{"labels.v1:0": 4}, 18]],
    }
    return replace(an_ensemble(DIGEST, N), **given_fields | changes)


DATA = encode(some_weights(), SIGNER)


def signed(tensors: dict[str, NDArray[Any]], manifest: dict[str, Any] | str) -> bytes:
    """What a careless holder of the key might sign."""
    text = manifest if isinstance(manifest, str) else msgspec.json.encode(manifest).decode()
    unsigned = save(
        tensors | {"signature": np.zeros(SIGNATURE_BYTES, np.uint8)}, {"manifest": text}
    )
    return resigned(unsigned)


def resigned(data: bytes) -> bytes:
    body = data[:-SIGNATURE_BYTES]
    return body + SIGNER.sign(bytes.fromhex(sha256_of(body)))


def manifest(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(manifest_of(DATA))
    return found | changes


def arrays() -> dict[str, NDArray[Any]]:
    return dict(some_weights().arrays)
