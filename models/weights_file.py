"""manifest + named arrays ↔ signed bytes: one safetensors file, nothing in it can change unseen.

The manifest is JSON in the header. The last 64 bytes, a tensor named `signature`, are an Ed25519
signature over the SHA-256 of every byte before them.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from models.signing import SIGNATURE_BYTES, PublicKey, Signer, verify
from models.weights_kinds import Array, Arrays, BadWeights
from models.weights_manifest import Manifest, SchemaMismatch, manifest_of

WEIGHTS_MAX_BYTES = 256 * 1024 * 1024
"""Of a full version or a delta."""


def sha256_of(data: bytes) -> str:
    """Return the name (hex) of a version's exact bytes: `parent_sha256`, `weights.sha256`."""
    return hashlib.sha256(data).hexdigest()


def checksum_of(arrays: Arrays) -> str:
    """Return the xxh3-128 (hex) of all arrays in name order: name, dtype, shape, bytes."""
    state = xxhash.xxh3_128()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        shape = ",".join(str(size) for size in array.shape)
        state.update(f"{name} {array.dtype.name} {shape};".encode())
        state.update(array.reshape(-1).view(np.uint8).data)
    return state.hexdigest()


def seal(
    manifest: Manifest, arrays: Arrays, signer: Signer, most: int = WEIGHTS_MAX_BYTES
) -> bytes:
    """Return a signed file of a manifest and named arrays.

    Raises:
        ValueError: It would hold more than `most` bytes: no scorer would take it.
    """
    tensors: dict[str, NDArray[Any]] = {
        name: np.ascontiguousarray(array) for name, array in arrays.items()
    }
    # safetensors lays tensors out by falling alignment: the only bytes come last
    tensors["signature"] = np.zeros(SIGNATURE_BYTES, np.uint8)
    text = msgspec.json.encode(manifest, order="sorted").decode()
    unsigned = save_tensors(tensors, metadata={"manifest": text})
    if len(unsigned) > most:
        raise ValueError(f"version {manifest.version} takes {len(unsigned)} bytes, over {most}")
    body = memoryview(unsigned)[:-SIGNATURE_BYTES]
    return b"".join((body, signer.sign(hashlib.sha256(body).digest())))


def unseal(
    data: bytes, public_keys: Sequence[PublicKey], schema_digest: str | None
) -> tuple[Manifest, dict[str, Array]]:
    """Verify a signed file and read it; the arrays' names and shapes are not looked at.

    Raises:
        BadSignature: No accepted key signed these bytes.
        BadWeights: Signed, but too large, without a manifest, or no safetensors.
        SchemaMismatch: Learned with another spec than `schema_digest`.
    """
    if not SIGNATURE_BYTES < len(data) <= WEIGHTS_MAX_BYTES:
        raise BadWeights(f"{len(data)} bytes; at most {WEIGHTS_MAX_BYTES} are taken")
    signature = data[-SIGNATURE_BYTES:]
    body = memoryview(data)[:-SIGNATURE_BYTES]
    verify(public_keys, signature, hashlib.sha256(body).digest())
    manifest = manifest_of(data)
    if schema_digest is not None and manifest.schema_digest != schema_digest:
        raise SchemaMismatch(
            f"version {manifest.version} was learned with spec {manifest.schema_digest[:12]}…, "
            f"in use is {schema_digest[:12]}…"
        )
    try:
        arrays = load_tensors(data)
    except (SafetensorError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise BadWeights(f"no safetensors: {error}") from error
    trailer = arrays.pop("signature", None)
    if trailer is None or trailer.tobytes() != signature:
        raise BadWeights("signature: not the last tensor of the file")
    for name, array in arrays.items():
        if array.dtype not in (np.float32, np.int32):
            raise BadWeights(f"{name}: expected float32 or int32, found {array.dtype.name}")
    return manifest, arrays
